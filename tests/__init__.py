"""The specification: every docstring below is a promise."""
