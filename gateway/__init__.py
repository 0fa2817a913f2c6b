"""The HTTP front end: takes submissions in, checks them, and answers only what it can keep."""
