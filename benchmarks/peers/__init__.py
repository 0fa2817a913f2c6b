"""What people would build instead of Mailroom: short, honest programs that only benchmarks run (benchmarks/stacks.py)."""
