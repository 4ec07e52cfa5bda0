"""The time of day, as the journal, the database and the log store it."""

import time


def now_us() -> int:
    """Return the time of day in microseconds since 1970 UTC."""
    return time.time_ns() // 1000
