"""Ends a keeper in order: its scripts, then the orphans, then the server, then the loop.

The server ends last, because it stores the ends of the scripts in the database.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from scriptservice.keeper.child.supervisor import ChildSupervisor
from scriptservice.keeper.command.command import RunningCommand
from scriptservice.keeper.command.start_queue import StartQueue
from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.system.event_loop import EventLoop, Pause, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.reaper import Reaper
from scriptservice.keeper.system.service_manager import ServiceManager
from scriptservice.keeper.tree.process_tree import ProcessTree
from scriptservice.keeper.upgrade.upgrade_steps import Upgrade

STEP_SECONDS = 0.05
ORPHAN_SECONDS = 5.0
"""How long a shutdown tries to kill the orphans of scripts whose command is unknown."""
FINISH_SECONDS = 15.0
"""How long a shutdown waits for scripts after the end of their grace period.

When all scripts have ended, the shutdown waits at most the same time for the server.
"""


@dataclass(frozen=True, slots=True)
class KeeperParts:
    """The parts of the keeper that a shutdown uses or ends.

    Attributes:
        running: the running commands, by id.
        start_queue: the scripts that are not started yet.
        tree: finds the orphans.
        journal: contains the ends of the scripts, which the server must store.
        child: the server.
        upgrade: an upgrade that may be under way.
        reaper: removes private directories.
        service_manager: gets a notification that the service stops.
    """

    running: Mapping[str, RunningCommand]
    start_queue: StartQueue
    tree: ProcessTree
    journal: Journal
    child: ChildSupervisor
    upgrade: Upgrade
    reaper: Reaper
    service_manager: ServiceManager


class Shutdown:
    """The shutdown of a keeper; it begins with the first call of `request`.

    Args:
        loop: stopped at the end.
        parts: what the shutdown ends.
        grace_seconds: the grace period of the scripts.

    Attributes:
        requests: how often the shutdown was requested.
        is_finishing: whether the server was asked to finish, because all scripts have ended.
    """

    def __init__(self, loop: EventLoop, parts: KeeperParts, grace_seconds: float) -> None:
        self._loop = loop
        self._callbacks = loop.supervised(self)
        self._parts = parts
        self._grace_seconds = grace_seconds
        self._orphans_until: float | None = None
        self._retry_timer: Timer | None = None
        self._retry_pause = Pause()
        self.requests = 0
        self.is_finishing = False

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Call `finish_if_done` again after a pause, which grows with each failure."""
        if self._retry_timer is None:
            seconds = self._retry_pause.next_seconds()
            self._retry_timer = self._callbacks.after(seconds, self._retry)

    def _retry(self) -> None:
        self._retry_timer = None
        self.finish_if_done()

    def request(self) -> None:
        """Stop all scripts.

        After the first request the scripts get a grace period. After any later request they are
        killed at once.
        """
        parts = self._parts
        self.requests += 1
        grace_seconds = self._grace_seconds if self.requests == 1 else 0
        logger.info("shutting_down", running=len(parts.running))
        call = self._callbacks.call  # If one step fails, the other steps are taken all the same.
        if self.requests == 1:
            self._callbacks.after(grace_seconds + FINISH_SECONDS, self._timed_out)
            seconds = grace_seconds + 2 * FINISH_SECONDS
            call(partial(parts.service_manager.notify_stopping, seconds))
            call(parts.upgrade.shutdown_started)
            call(partial(parts.child.send, {"type": "shutdown"}))
            call(parts.start_queue.shut_down)
        else:
            call(parts.reaper.give_up_removals)
        for command in list(parts.running.values()):
            self._loop.call(command, partial(command.shut_down, grace_seconds))
        self.finish_if_done()

    def finish_if_done(self) -> None:
        """Ask the server to finish, once all scripts have ended and all ends are in the journal.

        At this time no command is open. So this method also kills the orphans whose command is
        unknown, and tries that for at most `ORPHAN_SECONDS`.
        """
        if not self.requests or self._parts.running or self.is_finishing:
            return
        if self._orphans_until is None:
            self._orphans_until = time.monotonic() + ORPHAN_SECONDS
        orphans_left = not self._orphans_ended() and time.monotonic() < self._orphans_until
        if self._parts.journal.full or orphans_left:
            self._callbacks.after(STEP_SECONDS, self.finish_if_done)
            return
        self.is_finishing = True
        self._callbacks.after(FINISH_SECONDS, self._timed_out)
        # If the server has just died, another server must store the rest of the journal. This call
        # has no effect while a server is running.
        self._parts.child.start()
        self.send_finish()

    def _orphans_ended(self) -> bool:
        """Kill the orphans whose command is unknown; return whether there are none."""
        with suppress(OSError):  # The keeper is short of descriptors, and tries again later.
            return self._parts.tree.kill_unattributed_orphans().empty
        return False

    def send_finish(self) -> None:
        """Tell the server up to which position it has to store the journal before it ends."""
        self._parts.child.send({"type": "finish", "position": self._parts.journal.end})

    def _timed_out(self) -> None:
        logger.warning("server_not_finished", detail="what it did not store is in the journal")
        self._loop.stop()
        self._parts.child.stop_restarting()
        self._parts.child.kill()
