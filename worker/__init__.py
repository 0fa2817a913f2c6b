"""The worker: takes tickets, passes the gate, delivers over SMTP, and settles what came of it."""
