"""Decides when the writer gives free pages of the database back to the file system.

The writer does this in short steps; see `free_pages`.
"""

QUIET_SECONDS = 0.05
"""How long the writer must have had no job before a step begins. Jobs come in groups: soon after a
submission, the writer also stores the start, the output and the end of its command."""

LONGEST_DEFERRAL_SECONDS = 0.5
"""The longest time that a step is put off while jobs keep coming."""

RELEASE_RETRY_SECONDS = 60.0
"""Pause after a failed step."""


class ReleaseSchedule:
    """Holds the time of the next step. The class has no lock of its own.

    All times are in seconds by the monotonic clock.
    """

    def __init__(self) -> None:
        self._next_at: float | None = None

    def request(self, at: float) -> None:
        """Schedule a step at a time, unless a step is already scheduled for an earlier time."""
        self._next_at = at if self._next_at is None else min(at, self._next_at)

    def clear(self) -> None:
        """Remove the scheduled step, because the step begins now."""
        self._next_at = None

    def seconds_left(self, now: float, committed_at: float) -> float | None:
        """Return the time until the next step, None if no step is scheduled.

        Args:
            now: the time now.
            committed_at: the time of the writer's last commit.
        """
        if self._next_at is None:
            return None
        quiet_at = min(committed_at + QUIET_SECONDS, self._next_at + LONGEST_DEFERRAL_SECONDS)
        return max(0.0, self._next_at - now, quiet_at - now)
