"""The measured claims. Run with `make bench`; figures of one run compare, absolute ones depend on the machine."""
