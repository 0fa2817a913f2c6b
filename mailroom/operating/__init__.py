"""What an operator can look at and do, as data: for commands, pages and the desk of `mailroom up` alike."""
