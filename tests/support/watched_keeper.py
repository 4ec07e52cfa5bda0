"""A keeper that checks itself: at every turn, an open command has a timer or a watch.

While the script's own process is alive, the keeper must watch its pidfd. Afterwards the command
must have a timer, or one of its pipes must wait for the journal.
"""

import os
import sys

from scriptservice.keeper.command.command import RunningCommand
from scriptservice.keeper.keeper import Keeper
from support.loops import timer_owners

FORGOTTEN = "an open command has neither a timer nor a watch"


class Watcher:
    """Looks at the open commands of a keeper, and ends the keeper if it has forgotten one."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        keeper._loop.on_batch_end(self, self.check)

    def check(self) -> None:
        keeper = self._keeper
        timers = {id(owner) for owner in timer_owners(keeper._loop)}
        for command in keeper._running.values():
            if not command.exited:
                is_expected = command.kept.handle in keeper._loop._watched
            else:
                is_expected = id(command) in timers or self._waits_for_journal(command)
            if not is_expected:
                print(FORGOTTEN, command.kept, file=sys.stderr, flush=True)
                os.abort()

    def _waits_for_journal(self, command: RunningCommand) -> bool:
        journal = self._keeper._journal
        waiting = journal._waiting_for_room.keys() | journal._waiting_until_stored.keys()
        return any(descriptor in waiting for descriptor, _ in command.kept.streams)

    def callback_failed(self, error: Exception) -> None:
        print(FORGOTTEN, error, file=sys.stderr, flush=True)
        os.abort()


def watch_keepers() -> None:
    """Let every keeper that this process runs check itself."""
    run = Keeper.run

    def watched(keeper: Keeper) -> int:
        Watcher(keeper)
        return run(keeper)

    Keeper.run = watched  # type: ignore[method-assign]
