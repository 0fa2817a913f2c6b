"""The development mailbox: a real SMTP server that keeps what it gets and shows it."""
