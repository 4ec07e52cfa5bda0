"""Benchmarks: each one prints its figure, a limit measured in the same run, and their ratio."""
