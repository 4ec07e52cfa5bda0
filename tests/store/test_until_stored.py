"""Work that is repeated while the database is away."""

import asyncio

import pytest
from structlog.testing import capture_logs

from scriptservice.errors import StorageFullError, StoreError, StoreUnavailableError
from scriptservice.store.until_stored import until_stored

AWAY = StoreUnavailableError("cannot store: the database takes no writes now")
FULL = StorageFullError("cannot store: the disk is full")


class Work:
    """Raises the given errors one after the other, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    async def __call__(self) -> int:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return 5


def test_work_is_repeated_and_each_reason_is_logged_once() -> None:
    work = Work(AWAY, AWAY, FULL, FULL, AWAY)
    reasons: list[str | None] = []
    with capture_logs() as logged:
        found = asyncio.run(
            until_stored(work, "removal_waits", on_waiting=reasons.append, again_seconds=0)
        )
    assert (found, work.tries) == (5, 6)
    assert [entry["error"] for entry in logged] == [str(AWAY), str(FULL), str(AWAY)]
    assert {(entry["event"], entry["log_level"]) for entry in logged} == {
        ("removal_waits", "warning")
    }
    assert reasons == [str(each) for each in (AWAY, AWAY, FULL, FULL, AWAY)] + [None]


def test_without_an_event_nothing_is_logged() -> None:
    with capture_logs() as logged:
        asyncio.run(until_stored(Work(AWAY), None, again_seconds=0))
    assert logged == []


def test_unless_gives_up() -> None:
    work = Work(AWAY, AWAY, AWAY)
    with pytest.raises(StoreError):
        asyncio.run(until_stored(work, None, unless=lambda: work.tries == 2, again_seconds=0))
    assert work.tries == 2


def test_other_errors_are_raised() -> None:
    with pytest.raises(KeyError):
        asyncio.run(until_stored(Work(KeyError()), None))


def test_a_cancellation_ends_a_pause() -> None:
    async def cancel() -> None:
        trying = asyncio.ensure_future(until_stored(Work(AWAY), None, again_seconds=3600))
        await asyncio.sleep(0)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    asyncio.run(cancel())
