"""All benchmarks, in the order in which they run and appear in the table."""

from bench import (
    big_output,
    followers,
    history,
    idle_latency,
    live_latency,
    memory,
    output,
    postgresql,
    start_rate,
    start_up,
    submit_rate,
)

BENCHMARKS = (
    start_rate.BENCHMARK,
    submit_rate.BENCHMARK,
    idle_latency.BENCHMARK,
    live_latency.BENCHMARK,
    output.ONE,
    output.MANY,
    memory.BENCHMARK,
    history.BENCHMARK,
    big_output.BENCHMARK,
    followers.BENCHMARK,
    start_up.BENCHMARK,
    postgresql.BENCHMARK,
)
BY_NAME = {each.name: each for each in BENCHMARKS}
"""The benchmarks by the names that ``scripts/bench`` takes."""
