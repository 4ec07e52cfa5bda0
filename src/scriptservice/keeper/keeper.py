"""The keeper itself: brings its parts together and acts on requests, signals and ends.

It starts in the order in which things can go wrong without harm: the directory and its lock, the
address, then the journal of whoever was here before, and only then its child.
"""

import os
import signal
import time
from collections import deque
from contextlib import suppress
from resource import struct_rusage
from typing import Any
from uuid import UUID

from scriptservice.keeper.child import Child
from scriptservice.keeper.command import RunningCommand, Surroundings
from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.ended import EndedCommands
from scriptservice.keeper.identity import Identity
from scriptservice.keeper.journal import Kind
from scriptservice.keeper.journal_repair import repair
from scriptservice.keeper.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.ledger import Ledger
from scriptservice.keeper.linux import become_subreaper, forbid_new_privileges, signal_process
from scriptservice.keeper.log import logger
from scriptservice.keeper.loop import Loop
from scriptservice.keeper.notify import Manager
from scriptservice.keeper.protocol import PROTOCOL_VERSION, Frame, SpawnSpec
from scriptservice.keeper.reaper import Reaper
from scriptservice.keeper.recovery import Past, read_past, recover, snapshot_of
from scriptservice.keeper.spawn import SpawnError, default_signals
from scriptservice.keeper.start import StartError, open_standard_descriptors, prepare
from scriptservice.keeper.tree import CgroupTree, DescentTree, Tree

NEWBORNS = 64
NEWBORN_SECONDS = 0.02
SPAWNS_A_TURN = 8
FINISH_STEP_SECONDS = 0.05
STRAY_SECONDS = 1.0
FINISH_SECONDS = 15.0


_NO_ID = str(UUID(int=0))


class Keeper:
    """Owns the scripts of one data directory, from start to shutdown.

    Args:
        config: what it is told.

    Raises:
        StartError: nothing was started or changed that matters.
    """

    def __init__(self, config: KeeperConfig) -> None:
        self._config = config
        self._running: dict[str, RunningCommand] = {}
        self._by_pid: dict[int, RunningCommand] = {}
        self._waiting: dict[str, SpawnSpec] = {}
        self._births: deque[RunningCommand] = deque()
        self._shutdowns = 0
        self._finishing = False
        self._exit_code = 0
        self._child_was_ready = False
        self._child_serves = ""
        self._room_timer = False
        self._told_end = 0
        self._identity = Identity.mine()
        self._ground = prepare(config)
        self._spawner = self._ground.spawner
        self._loop = Loop()
        self._manager = Manager(
            config.notify_socket, config.watchdog_seconds, self._loop, self._status
        )
        self._reaper = Reaper(self._loop, self._reaped)
        self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        become_subreaper()
        if config.no_new_privileges:
            forbid_new_privileges()
        self._tree = self._choose_tree()
        self._open_journal()
        self._child = Child(
            config,
            self._loop,
            self._ground.listener,
            hello=self._hello,
            on_frame=self._frame,
            on_gone=self._child_gone,
        )

    def _choose_tree(self) -> Tree:
        if self._config.use_cgroups:
            name = f"scriptservice-{self._identity.pid}-{self._identity.start_ticks}"
            if tree := CgroupTree.probe(name):
                return tree
        return DescentTree(self._own_children, self._running.values, self._spawner.uid)

    def _open_journal(self) -> None:
        directory = os.path.join(self._config.data_dir, "journal")
        self._notes = repair(directory)
        for note in self._notes:
            logger.warning("journal_mended", detail=note)
        past = read_past(directory)
        self._past: Past | None = past
        try:
            self._writer = JournalWriter(
                directory, reserve_bytes=self._config.reserve_bytes, snapshot=self._snapshot
            )
        except NoRoomError as error:
            message = f"cannot start the journal in {directory}: {error}"
            raise StartError(message) from error
        recover(past, self._writer, self._identity)
        self._past = None
        self._ledger = Ledger(
            self._writer, self._loop, spool_limit_bytes=self._config.spool_limit_bytes
        )
        self._ledger.on_room = self._room_again
        self._ended = EndedCommands(self._ledger)
        self._ledger.record(Kind.KEEPER, _NO_ID, self._identity_fields())
        self._recorded_file = os.open(
            os.path.join(directory, "recorded"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        # A power cut may have taken the end of the journal, and not this number.
        recorded = int.from_bytes(os.pread(self._recorded_file, 8, 0), "little")
        self._ledger.recorded = min(recorded, self._writer.end)
        self._surroundings = Surroundings(
            loop=self._loop,
            ledger=self._ledger,
            tree=self._tree,
            null=self._null,
            remove_directory=self._reaper.remove_directory,
            closed=self._closed,
        )
        private = os.path.join(self._config.data_dir, "private")
        for name in os.listdir(private):
            self._reaper.remove_directory(os.path.join(private, name), lambda: None)

    def _identity_fields(self) -> dict[str, Any]:
        cgroup = self._tree.base if isinstance(self._tree, CgroupTree) else None
        return {"identity": self._identity.fields(), "cgroup": cgroup}

    def _snapshot(self) -> dict[str, Any]:
        past = self._past
        if past is None:
            opened = [command.snapshot() for command in self._running.values()]
            return {**self._identity_fields(), "open": opened}
        if past.identity is None:
            return {**self._identity_fields(), "open": []}
        # Recovery is not done: the next keeper must still find what the dead one left.
        return {
            "identity": past.identity.fields(),
            "cgroup": past.cgroup,
            "open": [snapshot_of(command) for command in past.open.values()],
        }

    def run(self) -> int:
        """Serve until shutdown; return the exit code."""
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
        self._loop.watch_signals({int(number) for number in signals}, self._signal)
        self._loop.after_batches(self._after_batch)
        if self._tree.mode == DescentTree.mode:
            self._loop.after(STRAY_SECONDS, self._end_strays)
        self._manager.start()
        self._child.start()
        self._loop.run()
        self._tree.close()
        return self._exit_code

    # What the child says

    def _hello(self) -> Frame:
        return {
            "type": "hello",
            "protocol": PROTOCOL_VERSION,
            "identity": self._identity.text,
            "pid": self._identity.pid,
            "journal": str(self._writer.id),
            "directory": os.path.join(self._config.data_dir, "journal"),
            "first": self._writer.first,
            "end": self._ledger.end,
            "recorded": self._ledger.recorded,
            "capacity": self._spawner.capacity,
            "first_start": not self._child_was_ready,
            "starts": self._child.starts,
            "shutting_down": self._shutdowns > 0,
            "notes": self._notes,
        }

    def _frame(self, frame: Frame) -> None:
        match frame["type"]:
            case "spawn":
                self._spawn_requested(SpawnSpec.from_frame(frame))
            case "stop":
                self._stop_requested(frame)
            case "expire":
                self._expired(frame["id"])
            case "recorded":
                self._recorded(frame["position"])
            case "ping":
                self._child.send({"type": "pong", "number": frame["number"], **self._state()})
            case "held":
                self._child.send({"type": "held", "end": self._ledger.end, "ids": self._held()})
            case "ready":
                self._child_was_ready = True
                self._serving("serving")
                if self._finishing:
                    self._send_finish()
            case "waiting":
                # It answers, if only that the database is away: whoever started us may go on.
                self._serving(str(frame["reason"]))
            case "adopted":
                self._ended.child_adopted()
            case "fatal":
                self._child_cannot_start(str(frame["message"]))

    def _serving(self, how: str) -> None:
        self._child_serves = how
        if not self._shutdowns:
            self._manager.ready()

    def _status(self) -> str:
        """Return one line on how this service is, for its manager."""
        if self._shutdowns:
            how = "stopping"
        elif self._child_serves:
            how = self._child_serves
        else:
            how = "starting the server" + (" again" if self._child.starts > 1 else "")
        return f"{how}, {len(self._running)} running"

    def _state(self) -> dict[str, Any]:
        return {
            "tree_kill": self._tree.mode,
            "running": len(self._running),
            "waiting": len(self._waiting),
            "full": self._ledger.full,
            "unrecorded_bytes": self._ledger.unrecorded_bytes,
            "strays": [stat.pid for stat in self._tree.strays()],
        }

    def _held(self) -> list[str]:
        """Return all commands whose end is not yet in the journal."""
        return [*self._running, *self._waiting]

    def _recorded(self, position: int) -> None:
        self._ledger.recorded_to(position)
        with suppress(OSError):  # a hint for the next start; it may be too low on a full disk
            os.pwrite(self._recorded_file, self._ledger.recorded.to_bytes(8, "little"), 0)
        self._ended.recorded()

    def _child_cannot_start(self, message: str) -> None:
        logger.error("server_cannot_start", detail=message)
        if not self._child_was_ready and not self._running:
            # It never worked: whoever started us is still there and is better told at once.
            self._child.release()
            self._exit_code = 1
            self._loop.stop()

    def _child_gone(self, code: int) -> None:
        self._child_serves = ""
        self._ended.child_gone()
        self._ledger.consumer_gone()
        if self._finishing and code == 0:
            self._child.release()
            self._loop.stop()

    # Starting scripts

    def _spawn_requested(self, spec: SpawnSpec) -> None:
        if spec.id in self._running or spec.id in self._waiting or spec.id in self._ended:
            logger.warning("command_sent_twice", command_id=spec.id, detail="it runs once")
        elif self._shutdowns:
            self._refuse(spec.id, "the service is shutting down", retry=True)
        else:
            self._waiting[spec.id] = spec

    def _refuse(
        self,
        command: str,
        reason: str,
        *,
        retry: bool,
        stopped: bool = False,
        timed_out: bool = False,
    ) -> None:
        fields = {"reason": reason, "retry": retry, "stopped": stopped, "timed_out": timed_out}
        self._ledger.record(Kind.REFUSED, command, fields)
        # Also one that may come again: not before this is recorded, or it would run unseen.
        self._ended.add(command)

    def _room_again(self) -> None:
        self._ended.room_again()
        self._spawn_some()

    def _newborns(self) -> int:
        """Return how many scripts are so young that more would slow them all."""
        born_before = time.monotonic() - NEWBORN_SECONDS
        births = self._births
        while births and (births[0].exited or births[0].started < born_before):
            births.popleft()
        return sum(not command.exited for command in births)

    def _spawn_some(self) -> None:
        if not self._waiting or self._shutdowns:
            return
        for _ in range(min(SPAWNS_A_TURN, NEWBORNS - self._newborns())):
            if not self._waiting or len(self._running) >= self._spawner.capacity:
                return
            spec = next(iter(self._waiting.values()))
            if not self._spawn(spec):
                return
        if self._waiting and not self._room_timer:
            self._room_timer = True
            self._loop.after(NEWBORN_SECONDS / 8, self._room_for_births)

    def _room_for_births(self) -> None:
        self._room_timer = False

    def _spawn(self, spec: SpawnSpec) -> bool:
        """Start a script; return False if it has to wait for room on the disk."""
        try:
            self._ledger.must_record(Kind.STARTING, spec.id, {})
        except NoRoomError:
            return False
        del self._waiting[spec.id]
        cgroup: int | None = None
        try:
            try:
                cgroup = self._tree.enter(spec.id)
            except OSError as error:
                raise SpawnError(f"cannot make its cgroup: {error.strerror}", retry=True) from error
            spawned = self._spawner.spawn(spec, cgroup)
        except SpawnError as error:
            # Not why: that may quote what was submitted. The command says it.
            logger.info("command_not_started", command_id=spec.id, retry=error.retry)
            self._tree.forget(_Nobody(spec.id))
            self._refuse(spec.id, str(error), retry=error.retry)
            return True
        finally:
            if cgroup is not None:
                os.close(cgroup)
        command = RunningCommand(spec, spawned, self._surroundings)
        self._running[command.id] = command
        self._by_pid[command.pid] = command
        self._births.append(command)
        return True

    # Ending scripts

    def _stop_requested(self, frame: Frame) -> None:
        command = self._running.get(frame["id"])
        if command is not None:
            command.stop("stop", signal.Signals[frame["signal"]], frame["grace_seconds"])
        elif self._waiting.pop(frame["id"], None):
            self._refuse(frame["id"], "stopped before it started", retry=False, stopped=True)

    def _expired(self, command: str) -> None:
        if self._waiting.pop(command, None):
            reason = "it waited longer than its queue time-out"
            self._refuse(command, reason, retry=False, timed_out=True)

    def _closed(self, command: RunningCommand) -> None:
        del self._running[command.id]
        if self._by_pid.get(command.pid) is command:
            del self._by_pid[command.pid]
        self._ended.add(command.id)
        if self._shutdowns:
            self._finish_if_done()

    def _own_children(self) -> set[int]:
        own = {pid for pid, command in self._by_pid.items() if not command.exited}
        own |= self._reaper.pids
        if self._child.pid is not None:
            own.add(self._child.pid)
        return own

    def _reaped(self, pid: int, status: int, usage: struct_rusage) -> bool:
        """Somebody was reaped by chance rather than by its pidfd; return whether it is ours."""
        command = self._by_pid.get(pid)
        if command is not None and not command.exited:
            command.reaped(status, usage)
        elif pid == self._child.pid:
            self._child.reaped(status)
        else:
            return False
        return True

    def _end_strays(self) -> None:
        """End orphans that nobody can attribute, once no script runs that could be theirs."""
        if not self._running:
            for stat in self._tree.strays():
                signal_process(stat.pid, stat.start_ticks, signal.SIGKILL)
        self._loop.after(STRAY_SECONDS, self._end_strays)

    # Signals and shutdown

    def _signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reaper.child_ended()
        elif number == signal.SIGHUP:
            self._manager.reloading()
            logger.info("sighup", detail="this release cannot upgrade in place; nothing was done")
            if self._child_serves:
                self._manager.ready()
        else:
            self._shutdown()

    def _shutdown(self) -> None:
        self._shutdowns += 1
        grace_seconds = self._config.shutdown_grace_seconds if self._shutdowns == 1 else 0
        logger.info("shutting_down", running=len(self._running))
        if self._shutdowns == 1:
            self._manager.stopping(grace_seconds + 2 * FINISH_SECONDS)
            self._child.send({"type": "shutdown"})
            for command_id in list(self._waiting):
                del self._waiting[command_id]
                self._refuse(command_id, "the service is shutting down", retry=True)
            self._loop.after(grace_seconds + FINISH_SECONDS, self._give_up)
        for command in list(self._running.values()):
            command.shut_down(grace_seconds)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._running or self._finishing:
            return
        if self._ledger.full:
            self._loop.after(FINISH_STEP_SECONDS, self._finish_if_done)
            return
        self._finishing = True
        self._loop.after(FINISH_SECONDS, self._give_up)
        # Without effect if it lives; if it has just died another one has to finish.
        self._child.start()
        self._send_finish()

    def _send_finish(self) -> None:
        self._child.send({"type": "finish", "position": self._ledger.end})

    def _give_up(self) -> None:
        logger.warning("server_not_finished", detail="what it missed is in the journal")
        self._child.release()
        self._child.kill()
        self._loop.stop()

    def _after_batch(self) -> None:
        self._tree.next_turn()
        self._spawn_some()
        if self._ledger.end != self._told_end:
            self._told_end = self._ledger.end
            self._child.send_end(self._told_end)
        self._manager.news()


class _Nobody:
    """A tree's root that was never started."""

    def __init__(self, command: str) -> None:
        self.id = command
        self.pid = 0
        self.exited = True


def main(config: KeeperConfig) -> int:
    """Be the keeper until shutdown; return the exit code."""
    default_signals()
    open_standard_descriptors()
    os.umask(0o077)
    try:
        keeper = Keeper(config)
    except StartError as error:
        logger.error("cannot_start", detail=str(error))
        return 1
    return keeper.run()
