"""Decides when the writer gives free pages of the database back to the file system."""

QUIET_SECONDS = 0.05
"""How long the writer has had no job before a step. Jobs come in groups: a submission is soon
followed by the start, the output and the end of its command."""

LONGEST_DEFERRAL_SECONDS = 0.5
"""How long a step is put off at most while jobs keep coming."""

RELEASE_RETRY_SECONDS = 60.0
"""Pause after a failed step."""


class ReleaseSchedule:
    """The time of the next step. The methods need no lock if the caller holds one.

    All times are in seconds by the monotonic clock.
    """

    def __init__(self) -> None:
        self._next_at: float | None = None

    def request(self, at: float) -> None:
        """Schedule a step, if none is scheduled for an earlier time."""
        self._next_at = at if self._next_at is None else min(at, self._next_at)

    def clear(self) -> None:
        """Schedule no step, because one begins."""
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
