"""Benchmarks. Each one prints a figure of the service, a limit from the same run, and their ratio.

The limit is what the machine or a simpler program reaches with the same work.
"""
