"""The queue: tickets that name messages. Only a hint, never the message itself."""
