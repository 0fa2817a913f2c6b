"""The `mailroom` command: every process of the product, started and wired in one place."""
