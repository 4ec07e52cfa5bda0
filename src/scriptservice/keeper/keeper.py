"""The keeper: builds its parts, and acts on frames, signals and the ends of processes.

A start takes these steps in order: the data directory and its lock, the address, the journal of the
previous keeper, and the child. If a step fails, nothing that matters was started or changed.

After an upgrade the keeper is built from the state that the previous program of the same process
handed over. The process, its children and its descriptors stay the same.
"""

import os
import signal
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from resource import struct_rusage
from typing import Any
from uuid import UUID

from scriptservice.keeper.child.position_updates import PositionUpdates
from scriptservice.keeper.child.supervisor import ChildSupervisor
from scriptservice.keeper.command.command import CommandContext, RunningCommand
from scriptservice.keeper.command.command_control import CommandControl
from scriptservice.keeper.command.ended_ids import EndedIds
from scriptservice.keeper.command.start_queue import StartQueue
from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.journal.journal import Journal
from scriptservice.keeper.journal.journal_repair import repair
from scriptservice.keeper.journal.journal_writer import JournalWriter, NoRoomError
from scriptservice.keeper.journal.stored_position import StoredPosition
from scriptservice.keeper.life.actions import Refuse
from scriptservice.keeper.recovery import RecoveryEndedError, recover
from scriptservice.keeper.shutdown import KeeperParts, Shutdown
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
from scriptservice.keeper.system.reaper import OLD_REMOVAL_SECONDS, Reaper
from scriptservice.keeper.system.service_manager import ServiceManager
from scriptservice.keeper.tree.cgroup import CgroupTree
from scriptservice.keeper.tree.combined import CombinedTree
from scriptservice.keeper.tree.descent import DescentTree
from scriptservice.keeper.tree.process_tree import ProcessTree
from scriptservice.keeper.upgrade.handover import HandoverError
from scriptservice.keeper.upgrade.upgrade_steps import SIGNALS, Upgrade
from scriptservice.keeper.upgrade_state import KeeperState, TreeState, UpgradeState
from scriptservice.protocol.fault_points import reached
from scriptservice.protocol.frames import PROTOCOL_VERSION, Frame, SpawnSpec, held_frames
from scriptservice.protocol.journal_format import Kind
from scriptservice.protocol.prctl import become_subreaper, forbid_new_privileges

ORPHAN_CHECK_SECONDS = 1.0

_NO_ID = str(UUID(int=0))


class Keeper:
    """Owns the scripts of one data directory, from start to shutdown.

    Args:
        config: the keeper's configuration.
        state: what the previous program of this process handed over; None at a start.

    Raises:
        StartError: the keeper cannot start. Nothing that matters was started or changed.
        RecoveryEndedError: a signal has asked the keeper to end before it was ready to run.
    """

    def __init__(self, config: KeeperConfig, state: KeeperState | None = None) -> None:
        self._config = config
        self._running: dict[str, RunningCommand] = {}
        self._running_by_pid: dict[int, RunningCommand] = {}
        self._exit_code = 0
        self._child_was_ready = False
        self._child_status = ""
        self._identity = Identity.current()
        self._resources = (
            acquire_resources(config) if state is None else restore_resources(config, state)
        )
        self._spawner = self._resources.spawner
        self._loop = EventLoop()
        self._callbacks = self._loop.supervised(self)
        # Watch the signals before the recovery, which may take long. Without a handler, the kernel
        # would not deliver them to a keeper that is the first process of its pid namespace.
        self._early_signals: set[int] = set()
        self._callbacks.watch_signals({int(number) for number in SIGNALS}, self._signal_received)
        self._service_manager = ServiceManager(
            config.notify_socket, config.watchdog_seconds, self._loop, self._status
        )
        self._reaper = Reaper(self._loop, self._process_reaped)
        self._dev_null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        become_subreaper()
        if config.no_new_privileges:
            forbid_new_privileges()
        self._tree = self._choose_tree() if state is None else self._restore_tree(state)
        self._directory = os.path.join(config.data_dir, "journal")
        if state is None:
            self._open_journal()
        else:
            self._reopen_journal(state)
        self._child = ChildSupervisor(
            config,
            self._loop,
            self._resources.listener,
            hello=self._hello,
            on_frame=self._frame_received,
            on_exit=self._child_exited,
        )
        self._control = CommandControl(self._loop, self._running, self._child.send)
        self._position_updates = PositionUpdates(
            self._loop, self._journal, self._child.send_journal_end
        )
        self._upgrade = Upgrade(
            config.data_dir,
            self._loop,
            self._child,
            self._service_manager,
            keeper_state=self._to_state,
        )
        parts = KeeperParts(
            running=self._running,
            start_queue=self._start_queue,
            tree=self._tree,
            journal=self._journal,
            child=self._child,
            upgrade=self._upgrade,
            reaper=self._reaper,
            service_manager=self._service_manager,
        )
        self._shutdown = Shutdown(self._loop, parts, config.shutdown_grace_seconds)
        self._previous_state: KeeperState | None = state
        if state is not None:
            self._restore(state)

    def _choose_tree(self) -> ProcessTree:
        name = f"scriptservice-{self._identity.pid}-{self._identity.start_ticks}"
        return self._make_tree(CgroupTree.probe(name) if self._config.use_cgroups else None)

    def _restore_tree(self, state: KeeperState) -> ProcessTree:
        base = state.tree.base
        return self._make_tree(None if base is None else CgroupTree(base), state.tree)

    def _make_tree(self, cgroup: CgroupTree | None, state: TreeState | None = None) -> ProcessTree:
        def descent(known: TreeState | None) -> DescentTree:
            return DescentTree(
                self._own_children,
                self._running.values,
                self._spawner.uid,
                known,
                None if cgroup is None else cgroup.base,
            )

        if cgroup is None:
            return descent(state)
        # A script may get other rights than those of its user by set-uid programs such as sudo.
        if cgroup.can_be_left_by(self._spawner.uid) or not self._config.no_new_privileges:
            return CombinedTree(cgroup, descent(state if state and state.descent else None))
        return cgroup

    def _should_end(self) -> bool:
        """Return whether a signal has asked the keeper to end before it runs."""
        self._early_signals |= self._loop.take_pending_signals()
        return bool(self._early_signals & {signal.SIGTERM, signal.SIGINT})

    def _open_journal(self) -> None:
        self._repair_notes: list[str] = []
        for note in repair(self._directory):
            self._journal_repaired(note)
        try:
            self._writer = recover(
                self._directory,
                self._identity,
                self._cgroup,
                reserve_bytes=self._config.reserve_bytes,
                snapshot=self._snapshot,
                should_end=self._should_end,
            )
        except RecoveryEndedError:
            self._tree.close()
            raise
        except NoRoomError as error:
            self._tree.close()
            message = f"cannot start the journal in {self._directory}: {error}"
            raise StartError(message) from error
        self._build_on_journal()
        self._journal.append(Kind.KEEPER, _NO_ID, self._identity_fields())
        stored = self._stored_position_file.read()
        if stored is None:
            self._journal_repaired("ignored the damaged file with the stored position")
            # A segment is only deleted after all of it is stored in the database. So everything
            # before the first segment that still exists is stored.
            stored = self._writer.first
        # After a power cut the end of the journal may be missing. The position in the file may then
        # be beyond the present end.
        self._journal.stored_position = min(stored, self._writer.end)
        private = os.path.join(self._config.data_dir, "private")
        for name in os.listdir(private):
            path = os.path.join(private, name)
            self._reaper.remove_directory(path, lambda: None, OLD_REMOVAL_SECONDS)

    def _journal_repaired(self, note: str) -> None:
        self._repair_notes.append(note)
        logger.warning("journal_mended", detail=note)

    def _reopen_journal(self, state: KeeperState) -> None:
        self._repair_notes = state.notes
        self._writer = JournalWriter(
            self._directory, reserve_bytes=self._config.reserve_bytes, snapshot=self._snapshot
        )
        self._writer.resume(state.ledger.end)
        self._build_on_journal()
        self._journal.restore(state.ledger)
        self._ended_ids.restore(state.ended)
        self._start_queue.restore(state.waiting)

    def _build_on_journal(self) -> None:
        self._journal = Journal(
            self._writer, self._loop, spool_limit_bytes=self._config.spool_limit_bytes
        )
        self._journal.on_room = self._journal_has_room
        self._ended_ids = EndedIds(self._journal)
        self._stored_position_file = StoredPosition(self._directory)
        self._command_context = CommandContext(
            loop=self._loop,
            journal=self._journal,
            tree=self._tree,
            null=self._dev_null,
            remove_directory=self._reaper.remove_directory,
            started=self._command_started,
            refused=self._command_refused,
            closed=self._command_closed,
        )
        self._start_queue = StartQueue(
            self._spawner,
            self._command_context,
            self._ended_ids,
            self._running,
            self._command_made,
        )

    @property
    def _cgroup(self) -> str | None:
        return self._tree.base

    def _identity_fields(self) -> dict[str, Any]:
        return {"identity": self._identity.fields(), "cgroup": self._cgroup}

    def _snapshot(self) -> dict[str, Any]:
        opened = [command.kept.snapshot() for command in self._running.values()]
        return {**self._identity_fields(), "open": opened}

    def run(self) -> int:
        """Serve until shutdown; return the exit code."""
        self._loop.on_batch_end(self, self._tree.refresh)
        self._loop.on_batch_end(self._start_queue, self._start_queue.start_some)
        self._loop.on_batch_end(self._position_updates, self._position_updates.batch_ended)
        self._loop.on_batch_end(self._service_manager, self._service_manager.notify_status)
        self._loop.on_batch_end(self._upgrade, self._upgrade.batch_ended)
        if self._tree.may_leave_orphans:
            self._callbacks.after(ORPHAN_CHECK_SECONDS, self._kill_unattributed_orphans)
        self._service_manager.start_watchdog()
        if self._previous_state is None:
            self._child.start()
        else:
            self._resume(self._previous_state)
            self._previous_state = None
        for number in sorted(self._early_signals):
            self._signal_received(number)
        self._loop.run()
        self._reaper.give_up_removals()
        self._tree.close()
        return self._exit_code

    def callback_failed(self, error: Exception) -> None:
        """Do nothing: all that the keeper itself does happens again, and the error is logged."""

    # Frames from the child

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
            "shutting_down": self._shutdown.requests > 0,
            "notes": self._repair_notes,
        }

    def _frame_received(self, frame: Frame) -> None:
        match frame["type"]:
            case "spawn":
                self._start_queue.spawn_requested(SpawnSpec.from_frame(frame))
            case "stop":
                self._stop_requested(frame)
            case "expire":
                self._start_queue.expire(frame["id"])
            case "recorded":
                self._journal_stored(frame["position"])
            case "ping":
                self._child.send({"type": "pong", "number": frame["number"], **self._pong_fields()})
            case "held":
                ids = self._unfinished_ids()
                self._child.send_parts(held_frames(frame, self._journal.end, ids))
            case "ready":
                self._child_was_ready = True
                self._child_answered("serving")
                if self._shutdown.is_finishing:
                    self._shutdown.send_finish()
            case "waiting":
                # The server cannot work yet, but it answers requests, at least with the reason why
                # it waits. That is enough for the service manager and for an upgrade.
                self._child_answered(str(frame["reason"]))
            case "adopted":
                self._ended_ids.child_adopted()
            case "fatal":
                self._child_cannot_start(str(frame["message"]))
            case _:
                self._control.frame_received(frame)

    def _child_answered(self, status: str) -> None:
        self._child_status = status
        if not self._shutdown.requests and not self._upgrade.active:
            self._service_manager.notify_ready()
        self._upgrade.server_answered()

    def _status(self) -> str:
        """Return one line about this service for the service manager."""
        if self._shutdown.requests:
            status = "stopping"
        elif self._child_status:
            status = self._child_status
        else:
            status = "starting the server" + (" again" if self._child.starts > 1 else "")
        return f"{status}, {len(self._running)} running"

    def _pong_fields(self) -> dict[str, Any]:
        return {
            "tree_kill": self._tree.mode,
            "spawn": self._spawner.method_name,
            "running": len(self._running),
            "waiting": len(self._start_queue),
            "full": self._journal.full,
            "unrecorded_bytes": self._journal.unstored_bytes,
            "strays": [stat.pid for stat in self._tree.unattributed_orphans()],
            "unkillable": [
                {"pid": each.pid, "uid": each.uid, "command": command_id}
                for command_id, each in self._tree.unkillable()
            ],
        }

    def _unfinished_ids(self) -> list[str]:
        """Return the ids of commands that were started and whose end is not in the journal yet."""
        return [*self._running, *self._ended_ids.unwritten]

    def _journal_stored(self, position: int) -> None:
        reached("acknowledged.told")
        self._journal.stored_up_to(position)
        # The write may fail, for example on a full disk. That does no harm: the file is only a hint
        # for the next start, and the position in the file may be too low.
        with suppress(OSError):
            self._stored_position_file.write(self._journal.stored_position)
        reached("acknowledged.noted")
        self._ended_ids.journal_stored()

    def _child_cannot_start(self, message: str) -> None:
        logger.error("server_cannot_start", detail=message)
        if not self._child_was_ready and not self._running:
            # No server has been ready since the start, so the user who started the service is
            # probably still watching. An exit tells that user more than endless restarts.
            self._child.stop_restarting()
            self._exit_code = 1
            self._loop.stop()

    def _child_exited(self, code: int, retired: bool) -> None:  # noqa: FBT001 - a callback
        self._child_status = ""
        self._ended_ids.child_gone()
        self._journal.recorder_stopped()
        if retired:
            self._upgrade.server_retired()
        elif self._shutdown.is_finishing and code == 0:
            self._child.stop_restarting()
            self._loop.stop()

    # Scripts

    def _journal_has_room(self) -> None:
        self._ended_ids.pending_written()
        self._start_queue.start_some()

    def _command_made(self, command: RunningCommand) -> None:
        self._running[command.id] = command
        self._start_queue.made(command)
        self._running_by_pid[command.pid] = command

    def _stop_requested(self, frame: Frame) -> None:
        command = self._running.get(frame["id"])
        if command is not None:
            number, grace_seconds = signal.Signals[frame["signal"]], float(frame["grace_seconds"])
            # If the stop fails, that concerns the command, not the server that has sent the frame.
            self._loop.call(command, partial(command.stop, "stop", number, grace_seconds))
        else:
            self._start_queue.stop(frame["id"])

    def _command_started(self, command: RunningCommand) -> None:
        self._start_queue.started(command)

    def _command_refused(self, command: RunningCommand, refusal: Refuse) -> None:
        self._start_queue.refused(command, refusal)
        self._forget(command)
        self._loop.call(self._shutdown, self._shutdown.finish_if_done)

    def _command_closed(self, command: RunningCommand) -> None:
        self._ended_ids.add(command.id)
        self._forget(command)
        self._loop.call(self._shutdown, self._shutdown.finish_if_done)

    def _forget(self, command: RunningCommand) -> None:
        if self._running.pop(command.id, None):
            self._start_queue.ended(command)
        if self._running_by_pid.get(command.pid) is command:
            del self._running_by_pid[command.pid]

    def _own_children(self) -> set[int]:
        own = {pid for pid, command in self._running_by_pid.items() if not command.exited}
        return own | self._reaper.pids | self._child.pids | self._upgrade.pids

    def _process_reaped(self, pid: int, status: int, usage: struct_rusage) -> bool:
        """Pass the end of a process on to the part of the keeper that started the process.

        The reaper waits for any child. So it may reap a script or the server before the event loop
        handles the pidfd of that process.

        Returns:
            Whether the process was that of a script, a server or an upgrade.
        """
        command = self._running_by_pid.get(pid)
        if command is not None and not command.exited:
            self._loop.call(command, partial(command.reaped, status, usage))
            return True
        return self._child.process_reaped(pid, status) or self._upgrade.process_reaped(pid)

    def _kill_unattributed_orphans(self) -> None:
        """Kill the orphans whose command is unknown, but only while no script is running.

        While a script is running, such an orphan may belong to that script.
        """
        self._callbacks.after(ORPHAN_CHECK_SECONDS, self._kill_unattributed_orphans)
        if not self._running:
            with suppress(OSError):  # The keeper is short of descriptors, and tries again later.
                self._tree.kill_unattributed_orphans()

    # Signals

    def _signal_received(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reaper.child_exited()
        elif number == signal.SIGHUP:
            self._upgrade.upgrade_requested()
        else:
            self._loop.call(self._shutdown, self._shutdown.request)

    # Hand-over to the next program of this process

    def _to_state(self, upgrade: UpgradeState, signals: set[int]) -> KeeperState:
        if any(not command.is_settled for command in self._running.values()):
            message = "a command waits for another attempt of something that failed"
            raise HandoverError(message)
        self._control.apply_sizes()
        listener = self._resources.listener
        return KeeperState(
            config=asdict(self._config),
            identity=self._identity.fields(),
            lock=self._resources.lock,
            listener=None if listener is None else listener.fileno(),
            spawner=self._spawner.to_state(),
            tree=self._tree.to_state(),
            ledger=self._journal.to_state(),
            ended=self._ended_ids.to_state(),
            child=self._child.to_state(),
            commands=[command.to_kept() for command in self._running.values()],
            waiting=self._start_queue.to_state(),
            removals=self._reaper.to_state(),
            manager=self._service_manager.to_state(),
            upgrade=upgrade,
            notes=list(self._repair_notes),
            child_was_ready=self._child_was_ready,
            child_serves=self._child_status,
            signals=sorted(signals),
        )

    def _restore(self, state: KeeperState) -> None:
        for descriptor in state.descriptors():
            os.set_inheritable(descriptor, False)  # noqa: FBT003
        if self._identity.fields() != state.identity:
            # This should not happen, since the process is the same. The keeper keeps the identity
            # that was handed over, because the journal and the server know that one.
            logger.error("keeper_fault", detail="its identity has changed with the upgrade")
            self._identity = Identity.from_fields(state.identity)
        for each in state.commands:
            command = RunningCommand(each, self._command_context)
            self._command_made(command)
            command.watch()
        on_removed = {
            command.id: partial(self._loop.call, command, command.removed)
            for command in self._running.values()
        }
        self._reaper.restore(state.removals, on_removed)
        self._service_manager.restore(state.manager)
        self._child_was_ready = state.child_was_ready
        self._child_status = state.child_serves

    def _resume(self, state: KeeperState) -> None:
        """Continue the work that the previous program of this process began."""
        # The previous program blocked these signals before the exec.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._child.restore(state.child)
        self._upgrade.restore(state.upgrade)
        for number in state.signals:
            self._signal_received(number)


def resume(state: KeeperState) -> int:
    """Continue a keeper after an upgrade, and run it until shutdown.

    Args:
        state: the state that the previous program handed over.

    Returns:
        The exit code.
    """
    return Keeper(KeeperConfig(**state.config), state).run()


def main(config: KeeperConfig) -> int:
    """Run the keeper until shutdown.

    Returns:
        The exit code: 1 if the keeper or its first server cannot start, else 0.
    """
    reset_signals()
    open_standard_descriptors()
    os.umask(0o077)
    try:
        keeper = Keeper(config)
    except StartError as error:
        logger.error("cannot_start", detail=str(error))
        return 1
    except RecoveryEndedError:
        logger.info("shutting_down", running=0)
        return 0
    return keeper.run()
