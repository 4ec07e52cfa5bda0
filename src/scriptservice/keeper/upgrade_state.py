"""The state that a keeper hands to its next program: all of its memory as plain data.

Each part of the keeper with state has a class here, which the part creates (``to_state``) and from
which it is restored (``restore`` or ``from_state``). Times are those of the monotonic clock, in
seconds. Descriptors are numbers that stay open across the exec. Bytes are base64. If you add state
to the keeper, add a field with a default: the files in ``tests/keeper/handovers`` must load for
ever.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CommandState:
    """A running command; see `RunningCommand`, whose fields these are.

    Attributes:
        handle: pidfd of the script's own process, None after it was reaped.
        streams: the pipes that are still read: descriptor and number of the stream.
        timeout_at: when its time-out is due, None for no time-out.
        discard_news_at: when the next DISCARDED record is due, None if none is.
        leftover_pids: processes that it left behind and that were signalled, None if none were.
    """

    id: str
    pid: int
    handle: int | None
    started: float
    exited: bool
    start_ticks: int
    pipes: list[int]
    private_directory: str | None
    removing: bool
    grace_seconds: float
    leftover_seconds: float
    limit: int | None
    stop_on_limit: bool
    position: int
    stream_bytes: list[int]
    discarded: int
    window_bytes: int
    window_mark: int
    cause: str | None
    kill_at: float | None
    killing: bool
    termed: bool
    tree_gone: bool
    leftover_at: float
    leftover_pids: list[int] | None
    streams: list[list[int]]
    timeout_at: float | None
    discard_news_at: float | None


@dataclass(frozen=True, slots=True)
class ChildProcessState:
    """The server's process; see `ChildProcess`.

    Attributes:
        pid: its process id.
        handle: its pidfd.
        socket: the keeper's end of the socket to it, None if the process has closed its end.
        started_at: when it was started, or greeted if it was a successor.
        received: the beginning of a frame whose rest has not arrived.
        outgoing: frames that wait to be sent; may begin with the rest of one.
        latest_end: the frame with the journal's end that follows them, None for none.
    """

    pid: int
    handle: int
    socket: int | None
    started_at: float
    received: str
    outgoing: str
    latest_end: str | None


@dataclass(frozen=True, slots=True)
class ChildSupervisorState:
    """The server and its restarts; see `ChildSupervisor`.

    Attributes:
        life: the present process, None between two.
        starts: how many processes were greeted.
        failures: how many died in a row, for the back-off.
    """

    life: ChildProcessState | None
    starts: int
    failures: int


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A journal record that waits for room on the disk.

    Attributes:
        kind: the number of its `Kind`.
        command: the command's UUID.
        fields: the payload.
        position: length of the command's merged output, in bytes.
        time_us: when it happened, in microseconds of the Unix epoch.
    """

    kind: int
    command: str
    fields: dict[str, Any]
    position: int
    time_us: int


@dataclass(frozen=True, slots=True)
class JournalState:
    """The journal, and the records that wait for it; see `Journal`.

    Attributes:
        journal: its id.
        end: the position after its last record.
        recorded: the position up to which it is stored in the database.
        pending: records that wait for room, oldest first.
        told_full: whether the log has a warning that there is no room.
        consumer_acts: whether a server stores the journal at present.
    """

    journal: str
    end: int
    recorded: int
    pending: list[PendingRecord]
    told_full: bool
    consumer_acts: bool


@dataclass(frozen=True, slots=True)
class EndedIdsState:
    """The ids that are refused a second time; see `EndedIds`.

    Attributes:
        ids: all of them.
        written: those whose end is in the journal: its position and the id, in order.
        unwritten: those whose end waits for room.
        child_has_adopted: whether the present server has sent all that it had to send again.
        given_back: those that were not started, so that they may be sent again later.
    """

    ids: list[str]
    written: list[tuple[int, str]]
    unwritten: list[str]
    child_has_adopted: bool
    given_back: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TreeState:
    """Which processes belong to which script; see `ProcessTree`.

    Attributes:
        mode: ``cgroup`` or ``walk``.
        base: directory of the keeper's cgroup, None in mode ``walk``.
        before: children from before the keeper's exec: process id and start.
        seen: by command id, processes of its tree that were seen: process id and start.
        sessions: by command id, sessions of its tree that were seen.
        owners: orphans whose command is known: process id, start, command id.
    """

    mode: str
    base: str | None = None
    before: list[tuple[int, int]] = field(default_factory=list)
    seen: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    sessions: dict[str, list[int]] = field(default_factory=dict)
    owners: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScriptUserState:
    """The user of scripts; see `ScriptUser`."""

    uid: int
    gid: int
    groups: list[int]
    name: str
    home: str | None
    changes: bool


@dataclass(frozen=True, slots=True)
class SpawnerState:
    """What scripts are started with; see `Spawner`.

    Attributes:
        user: the user of scripts.
        soft_limit: of descriptors, for scripts.
        hard_limit: of descriptors.
        raised: whether the keeper's own soft limit was raised.
        work: descriptor of the working directory.
    """

    user: ScriptUserState
    soft_limit: int
    hard_limit: int
    raised: bool
    work: int


@dataclass(frozen=True, slots=True)
class RemovalState:
    """A program that removes a private directory; see `Reaper`.

    Attributes:
        pid: its process id.
        path: the directory; its name is the command's id.
        uid: the directory's owner.
        gid: the directory's group.
        turns: the attempts that follow, each as the owner (true) or as the keeper's user.
    """

    pid: int
    path: str
    uid: int
    gid: int
    turns: list[bool]


@dataclass(frozen=True, slots=True)
class ServiceManagerState:
    """The notifications to the service manager; see `ServiceManager`.

    Attributes:
        is_ready: whether it was notified that the service is ready.
        owed: lines that could not be sent yet, by name.
    """

    is_ready: bool
    owed: dict[str, str]


@dataclass(frozen=True, slots=True)
class UpgradeState:
    """The upgrade whose last step is this hand-over; see `Upgrade`.

    Attributes:
        number: of the upgrade, counted for each data directory.
        release: the new release, as its server named it.
        again: whether another upgrade was requested in the meantime.
        began_at: when it began.
    """

    number: int
    release: str
    again: bool
    began_at: float


@dataclass(frozen=True, slots=True)
class KeeperState:
    """The keeper's whole state.

    Attributes:
        config: the fields of `KeeperConfig`.
        identity: the fields of `Identity`, which stays the same since the process does.
        lock: descriptor of the data directory's lock.
        listener: the listening socket, None for none.
        waiting: the fields of each `SpawnSpec` that waits in the start queue, in order.
        notes: what was repaired in the journal at the keeper's start.
        child_was_ready: whether any server has ever been ready.
        child_serves: the status of the present server, empty if it does not answer yet.
        signals: numbers of the signals that arrived and were not handled.
    """

    config: dict[str, Any]
    identity: dict[str, Any]
    lock: int
    listener: int | None
    spawner: SpawnerState
    tree: TreeState
    ledger: JournalState
    ended: EndedIdsState
    child: ChildSupervisorState
    commands: list[CommandState]
    waiting: list[dict[str, Any]]
    removals: list[RemovalState]
    manager: ServiceManagerState
    upgrade: UpgradeState
    notes: list[str]
    child_was_ready: bool
    child_serves: str
    signals: list[int]

    def descriptors(self) -> set[int]:
        """Return the descriptors that must stay open across the exec."""
        kept = {self.lock, self.spawner.work}
        if self.listener is not None:
            kept.add(self.listener)
        if self.child.life is not None:
            kept.add(self.child.life.handle)
            if self.child.life.socket is not None:
                kept.add(self.child.life.socket)
        for command in self.commands:
            kept |= {descriptor for descriptor, _ in command.streams}
            if command.handle is not None:
                kept.add(command.handle)
        return kept
