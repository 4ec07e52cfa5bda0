"""Ends commands whose end no keeper reports any more.

Such a command is usually ``lost``. Nothing is guessed: only if its recorded exit decides, it gets
the status that follows from the exit.
"""

from collections.abc import Callable

from scriptservice.fleet.journal_folding import INCOMPLETE_REASON, status_from_exit
from scriptservice.fleet.notifications import StatusChange
from scriptservice.fleet.queue_timeouts import ending_change
from scriptservice.model import Status
from scriptservice.protocol.clock import now_us
from scriptservice.store.queries import dispatching
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer


async def end_lost(
    writer: Writer,
    row: dispatching.OpenCommand,
    reason: str,
    on_ended: Callable[[StatusChange], None],
) -> None:
    """End a command, unless it has ended meanwhile.

    Args:
        writer: stores the end.
        row: the command.
        reason: why its outcome is unknown.
        on_ended: called if the command was ended.
    """
    status = Status.LOST
    if row.status is Status.RUNNING and row.outcome.exited_at is not None:
        # The journal has the exit of the script, and no stop before the exit. So the exit decides
        # the status.
        status, why = status_from_exit(row.outcome)
        reason = f"{why}; {INCOMPLETE_REASON}" if why else INCOMPLETE_REASON
    ending = dispatching.Ending(row.number, status, reason, now_us())
    lost = await until_stored(
        lambda: writer.submit(dispatching.end_unknown, ending), "adoption_waits"
    )
    if lost:
        on_ended(ending_change(row.id, ending, row.outcome))


def why_lost(row: dispatching.OpenCommand) -> str:
    """Return why the outcome of a command that was sent to another keeper is unknown."""
    if row.dispatched_to == dispatching.RESTORED:
        return "restored: it may have run after this copy of the database was made"
    if row.status is Status.QUEUED:
        return "its keeper died, and no record shows that it started"
    return "its keeper died and left no record of how it ended"
