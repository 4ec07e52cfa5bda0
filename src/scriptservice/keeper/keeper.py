"""The keeper itself: brings its parts together and acts on requests, signals and ends.

It starts in the order in which things can go wrong without harm: the directory and its lock, the
address, then the journal of whoever was here before, and only then its child. After an upgrade it
is made from the state of the program before it instead: the same process, children, descriptors.
"""

import os
import signal
from contextlib import suppress
from dataclasses import asdict
from resource import struct_rusage
from typing import Any
from uuid import UUID

from scriptservice.keeper.child.position_updates import PositionUpdates
from scriptservice.keeper.child.supervisor import ChildSupervisor
from scriptservice.keeper.command.command import CommandContext, RunningCommand
from scriptservice.keeper.command.ended_ids import EndedIds
from scriptservice.keeper.command.start_queue import StartQueue
from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.journal.journal_repair import repair
from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.journal.stored_position import StoredPosition
from scriptservice.keeper.recovery import PreviousKeeper, read_previous_keeper, recover, snapshot_of
from scriptservice.keeper.spawn.spawner import reset_signals
from scriptservice.keeper.startup import (
    StartError,
    acquire_resources,
    open_standard_descriptors,
    restore_resources,
)
from scriptservice.keeper.system.event_loop import EventLoop
from scriptservice.keeper.system.identity import Identity
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.linux import signal_process
from scriptservice.keeper.system.reaper import Reaper
from scriptservice.keeper.system.service_manager import ServiceManager
from scriptservice.keeper.tree.cgroup import CgroupTree
from scriptservice.keeper.tree.descent import DescentTree
from scriptservice.keeper.tree.process_tree import ProcessTree
from scriptservice.keeper.upgrade.upgrade import SIGNALS, Upgrade
from scriptservice.keeper.upgrade_state import KeeperState, UpgradeState
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import PROTOCOL_VERSION, Frame, SpawnSpec
from scriptservice.protocol.journal_format import Kind
from scriptservice.protocol.prctl import become_subreaper, forbid_new_privileges

FINISH_STEP_SECONDS = 0.05
ORPHAN_CHECK_SECONDS = 1.0
FINISH_SECONDS = 15.0


_NO_ID = str(UUID(int=0))


class Keeper:
    """Owns the scripts of one data directory, from start to shutdown.

    Args:
        config: what it is told.
        state: what the program before this one handed over; None at a start.

    Raises:
        StartError: nothing was started or changed that matters.
    """

    def __init__(self, config: KeeperConfig, state: KeeperState | None = None) -> None:
        self._config = config
        self._running: dict[str, RunningCommand] = {}
        self._by_pid: dict[int, RunningCommand] = {}
        self._shutdown_requests = 0
        self._finishing = False
        self._exit_code = 0
        self._child_was_ready = False
        self._child_serves = ""
        self._identity = Identity.current()
        self._resources = (
            acquire_resources(config) if state is None else restore_resources(config, state)
        )
        self._spawner = self._resources.spawner
        self._loop = EventLoop()
        self._manager = ServiceManager(
            config.notify_socket, config.watchdog_seconds, self._loop, self._status
        )
        self._reaper = Reaper(self._loop, self._process_reaped)
        self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        become_subreaper()
        if config.no_new_privileges:
            forbid_new_privileges()
        self._tree = self._choose_tree() if state is None else self._restore_tree(state)
        self._directory = os.path.join(config.data_dir, "journal")
        self._previous: PreviousKeeper | None = None
        if state is None:
            self._open_journal()
        else:
            self._reopen_journal(state)
        self._child = ChildSupervisor(
            config,
            self._loop,
            self._resources.listener,
            hello=self._hello,
            on_frame=self._handle_frame,
            on_gone=self._child_exited,
        )
        self._position_updates = PositionUpdates(
            self._loop, self._journal, self._child.send_journal_end
        )
        self._upgrade = Upgrade(
            config.data_dir,
            self._loop,
            self._child,
            self._manager,
            state=self._to_state,
            on_signal=self._signal_received,
        )
        self._previous_state: KeeperState | None = state
        if state is not None:
            self._restore(state)

    def _choose_tree(self) -> ProcessTree:
        if self._config.use_cgroups:
            name = f"scriptservice-{self._identity.pid}-{self._identity.start_ticks}"
            if tree := CgroupTree.probe(name):
                return tree
        return DescentTree(self._own_children, self._running.values, self._spawner.uid)

    def _restore_tree(self, state: KeeperState) -> ProcessTree:
        if state.tree.base is not None:
            return CgroupTree(state.tree.base)
        return DescentTree(
            self._own_children, self._running.values, self._spawner.uid, handed=state.tree
        )

    def _open_journal(self) -> None:
        self._notes: list[str] = []
        for note in repair(self._directory):
            self._note_repair(note)
        previous = read_previous_keeper(self._directory)
        self._previous = previous
        try:
            self._writer = self._journal_writer()
        except NoRoomError as error:
            message = f"cannot start the journal in {self._directory}: {error}"
            raise StartError(message) from error
        recover(previous, self._writer, self._identity)
        self._previous = None
        self._build_on_journal()
        self._journal.append(Kind.KEEPER, _NO_ID, self._identity_fields())
        recorded = self._recorded_file.read()
        if recorded is None:
            self._note_repair("the note of how far it is recorded was damaged")
            recorded = self._writer.first  # at least so far: what came before is not held any more
        # A power cut may have taken the end of the journal, and not this number.
        self._journal.stored_position = min(recorded, self._writer.end)
        private = os.path.join(self._config.data_dir, "private")
        for name in os.listdir(private):
            self._reaper.remove_directory(os.path.join(private, name), lambda: None)

    def _note_repair(self, note: str) -> None:
        self._notes.append(note)
        logger.warning("journal_mended", detail=note)

    def _reopen_journal(self, state: KeeperState) -> None:
        self._notes = state.notes
        self._writer = self._journal_writer()
        self._writer.resume(state.ledger.end)
        self._build_on_journal()
        self._journal.restore(state.ledger)
        self._ended.restore(state.ended)
        self._waiting.restore(state.waiting)

    def _journal_writer(self) -> JournalWriter:
        return JournalWriter(
            self._directory, reserve_bytes=self._config.reserve_bytes, snapshot=self._snapshot
        )

    def _build_on_journal(self) -> None:
        self._journal = Journal(
            self._writer, self._loop, spool_limit_bytes=self._config.spool_limit_bytes
        )
        self._journal.on_room = self._journal_has_room
        self._ended = EndedIds(self._journal)
        self._recorded_file = StoredPosition(self._directory)
        self._surroundings = CommandContext(
            loop=self._loop,
            journal=self._journal,
            tree=self._tree,
            null=self._null,
            remove_directory=self._reaper.remove_directory,
            closed=self._command_closed,
        )
        self._waiting = StartQueue(
            self._spawner, self._surroundings, self._ended, self._running, self._command_started
        )

    def _identity_fields(self) -> dict[str, Any]:
        cgroup = self._tree.base if isinstance(self._tree, CgroupTree) else None
        return {"identity": self._identity.fields(), "cgroup": cgroup}

    def _snapshot(self) -> dict[str, Any]:
        previous = self._previous
        if previous is None:
            opened = [command.snapshot() for command in self._running.values()]
            opened += self._waiting.launches.snapshot()
            return {**self._identity_fields(), "open": opened}
        if previous.identity is None:
            return {**self._identity_fields(), "open": []}
        # Recovery is not done: the next keeper must still find what the dead one left.
        return {
            "identity": previous.identity.fields(),
            "cgroup": previous.cgroup,
            "open": [snapshot_of(command) for command in previous.open.values()],
        }

    def run(self) -> int:
        """Serve until shutdown; return the exit code."""
        self._loop.watch_signals({int(number) for number in SIGNALS}, self._signal_received)
        self._loop.on_batch_end(self._batch_ended)
        if self._tree.mode == DescentTree.mode:
            self._loop.after(ORPHAN_CHECK_SECONDS, self._kill_unattributed_orphans)
        self._manager.start_watchdog()
        if self._previous_state is None:
            self._child.start()
        else:
            self._resume(self._previous_state)
            self._previous_state = None
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
            "directory": self._directory,
            "first": self._writer.first,
            "end": self._journal.end,
            "recorded": self._journal.stored_position,
            "capacity": self._spawner.capacity,
            "first_start": not self._child_was_ready,
            "starts": self._child.starts,
            "shutting_down": self._shutdown_requests > 0,
            "notes": self._notes,
        }

    def _handle_frame(self, frame: Frame) -> None:
        match frame["type"]:
            case "spawn":
                self._waiting.asked(SpawnSpec.from_frame(frame))
            case "stop":
                self._stop_requested(frame)
            case "expire":
                self._waiting.expire(frame["id"])
            case "recorded":
                self._recorded(frame["position"])
            case "ping":
                self._child.send({"type": "pong", "number": frame["number"], **self._pong_fields()})
            case "held":
                self._child.send(
                    {"type": "held", "end": self._journal.end, "ids": self._unfinished_ids()}
                )
            case "ready":
                self._child_was_ready = True
                self._server_answered("serving")
                if self._finishing:
                    self._send_finish()
            case "waiting":
                # It answers, if only that the database is away: whoever started us may go on.
                self._server_answered(str(frame["reason"]))
            case "adopted":
                self._ended.child_adopted()
            case "fatal":
                self._child_cannot_start(str(frame["message"]))

    def _server_answered(self, how: str) -> None:
        self._child_serves = how
        if not self._shutdown_requests and not self._upgrade.active:
            self._manager.notify_ready()
        self._upgrade.server_answered()

    def _status(self) -> str:
        """Return one line on how this service is, for its manager."""
        if self._shutdown_requests:
            how = "stopping"
        elif self._child_serves:
            how = self._child_serves
        else:
            how = "starting the server" + (" again" if self._child.starts > 1 else "")
        return f"{how}, {len(self._running)} running"

    def _pong_fields(self) -> dict[str, Any]:
        return {
            "tree_kill": self._tree.mode,
            "spawn": self._spawner.way,
            "running": len(self._running),
            "waiting": len(self._waiting),
            "full": self._journal.full,
            "unrecorded_bytes": self._journal.unstored_bytes,
            "strays": [stat.pid for stat in self._tree.unattributed_orphans()],
        }

    def _unfinished_ids(self) -> list[str]:
        """Return all commands that were started and whose end is not yet in the journal."""
        return [*self._running, *self._waiting.launches.commands, *self._ended.unwritten]

    def _recorded(self, position: int) -> None:
        reached("acknowledged.told")
        self._journal.stored_up_to(position)
        with suppress(OSError):  # a hint for the next start; it may be too low on a full disk
            self._recorded_file.write(self._journal.stored_position)
        reached("acknowledged.noted")
        self._ended.recorded()

    def _child_cannot_start(self, message: str) -> None:
        logger.error("server_cannot_start", detail=message)
        if not self._child_was_ready and not self._running:
            # It never worked: whoever started us is still there and is better told at once.
            self._child.stop_restarting()
            self._exit_code = 1
            self._loop.stop()

    def _child_exited(self, code: int, retired: bool) -> None:  # noqa: FBT001 - a callback
        self._child_serves = ""
        self._ended.child_gone()
        self._journal.recorder_stopped()
        if retired:
            self._upgrade.server_retired()
        elif self._finishing and code == 0:
            self._child.stop_restarting()
            self._loop.stop()

    # Scripts

    def _journal_has_room(self) -> None:
        self._ended.room_again()
        self._waiting.start_some()

    def _command_started(self, command: RunningCommand) -> None:
        self._running[command.id] = command
        self._by_pid[command.pid] = command

    def _stop_requested(self, frame: Frame) -> None:
        self._waiting.launches.settle(frame["id"])
        command = self._running.get(frame["id"])
        if command is not None:
            command.stop("stop", signal.Signals[frame["signal"]], frame["grace_seconds"])
        else:
            self._waiting.stop(frame["id"])

    def _command_closed(self, command: RunningCommand) -> None:
        del self._running[command.id]
        if self._by_pid.get(command.pid) is command:
            del self._by_pid[command.pid]
        self._ended.add(command.id)
        if self._shutdown_requests:
            self._finish_if_done()

    def _own_children(self) -> set[int]:
        own = {pid for pid, command in self._by_pid.items() if not command.exited}
        own |= self._waiting.launches.pids
        return own | self._reaper.pids | self._child.pids | self._upgrade.pids

    def _process_reaped(self, pid: int, status: int, usage: struct_rusage) -> bool:
        """Somebody was reaped by chance rather than by its pidfd; return whether it is ours."""
        self._waiting.launches.settle_process(pid)
        command = self._by_pid.get(pid)
        if command is not None and not command.exited:
            command.reaped(status, usage)
            return True
        return self._child.process_reaped(pid, status) or self._upgrade.process_reaped(pid)

    def _kill_unattributed_orphans(self) -> None:
        """End orphans that nobody can attribute, once no script runs that could be theirs."""
        self._loop.after(ORPHAN_CHECK_SECONDS, self._kill_unattributed_orphans)
        if not self._running and not self._waiting.launches:
            for stat in self._tree.unattributed_orphans():
                signal_process(stat.pid, stat.start_ticks, signal.SIGKILL)

    # Signals and shutdown

    def _signal_received(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reaper.child_exited()
        elif number == signal.SIGHUP:
            self._upgrade.upgrade_requested()
        else:
            self._shut_down()

    def _shut_down(self) -> None:
        self._shutdown_requests += 1
        grace_seconds = self._config.shutdown_grace_seconds if self._shutdown_requests == 1 else 0
        logger.info("shutting_down", running=len(self._running))
        if self._shutdown_requests == 1:
            self._manager.notify_stopping(grace_seconds + 2 * FINISH_SECONDS)
            self._upgrade.shutdown_started()
            self._child.send({"type": "shutdown"})
            self._waiting.shut_down()
            self._loop.after(grace_seconds + FINISH_SECONDS, self._finish_timed_out)
        for command in list(self._running.values()):
            command.shut_down(grace_seconds)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._running or self._finishing:
            return
        if self._journal.full:
            self._loop.after(FINISH_STEP_SECONDS, self._finish_if_done)
            return
        self._finishing = True
        self._loop.after(FINISH_SECONDS, self._finish_timed_out)
        # Without effect if it lives; if it has just died another one has to finish.
        self._child.start()
        self._send_finish()

    def _send_finish(self) -> None:
        self._child.send({"type": "finish", "position": self._journal.end})

    def _finish_timed_out(self) -> None:
        logger.warning("server_not_finished", detail="what it missed is in the journal")
        self._child.stop_restarting()
        self._child.kill()
        self._loop.stop()

    def _batch_ended(self) -> None:
        self._tree.refresh()
        self._waiting.start_some()
        self._position_updates.batch_ended()
        self._manager.notify_status()
        self._upgrade.batch_ended()

    # Handing over to the next program of this process

    def _to_state(self, upgrade: UpgradeState, signals: set[int]) -> KeeperState:
        self._waiting.launches.settle_all()
        listener = self._resources.listener
        return KeeperState(
            config=asdict(self._config),
            identity=self._identity.fields(),
            lock=self._resources.lock,
            listener=None if listener is None else listener.fileno(),
            spawner=self._spawner.to_state(),
            tree=self._tree.to_state(),
            ledger=self._journal.to_state(),
            ended=self._ended.to_state(),
            child=self._child.to_state(),
            commands=[command.to_state() for command in self._running.values()],
            waiting=self._waiting.to_state(),
            removals=self._reaper.to_state(),
            manager=self._manager.to_state(),
            upgrade=upgrade,
            notes=list(self._notes),
            child_was_ready=self._child_was_ready,
            child_serves=self._child_serves,
            signals=sorted(signals),
        )

    def _restore(self, state: KeeperState) -> None:
        for descriptor in state.descriptors():
            os.set_inheritable(descriptor, False)  # noqa: FBT003
        if self._identity.fields() != state.identity:
            # The server goes by the old one, and so does the journal; it should be the same.
            logger.error("keeper_fault", detail="its identity has changed with the upgrade")
            self._identity = Identity.from_fields(state.identity)
        for each in state.commands:
            self._command_started(RunningCommand.from_state(each, self._surroundings))
        done = {command.id: command.removed for command in self._running.values()}
        self._reaper.restore(state.removals, done)
        self._manager.restore(state.manager)
        self._child_was_ready = state.child_was_ready
        self._child_serves = state.child_serves

    def _resume(self, state: KeeperState) -> None:
        """Go on with what the program before this one was in the midst of."""
        # First of all: from here on signals can be taken again.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._child.restore(state.child)
        self._upgrade.restore(state.upgrade)
        for number in state.signals:
            self._signal_received(number)


def resume(state: KeeperState) -> int:
    """Be the keeper that another program was until now; return the exit code at the end."""
    return Keeper(KeeperConfig(**state.config), state).run()


def main(config: KeeperConfig) -> int:
    """Be the keeper until shutdown; return the exit code."""
    reset_signals()
    open_standard_descriptors()
    os.umask(0o077)
    try:
        keeper = Keeper(config)
    except StartError as error:
        logger.error("cannot_start", detail=str(error))
        return 1
    return keeper.run()
