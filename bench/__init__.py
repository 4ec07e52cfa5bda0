"""Benchmarks: each prints its figure, the raw limit measured in the same run, and the ratio."""
