"""The time of day as journal, database and log write it."""

import time


def now_us() -> int:
    """Return the time of day in microseconds since 1970 UTC."""
    return time.time_ns() // 1000
