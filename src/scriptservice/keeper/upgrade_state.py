"""What a keeper hands to its next program: its whole memory as plain data.

One class for each part of the keeper that has something to hand over; the part itself makes it
(``to_state``) and is made from it (``from_state``). Moments are those of the monotonic clock, in
seconds; descriptors are numbers, open across the exec; bytes are base64. A field that a later
release adds needs a default: what is checked in under ``tests/keeper/handovers`` must load for
ever.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CommandState:
    """A running command; see `RunningCommand`, whose fields these are.

    Attributes:
        handle: its pidfd, None once it was reaped.
        streams: the pipes that are still read: descriptor and number.
        timeout_at: when its time-out is due, None: never.
        discard_news_at: when it is to be told how much was discarded, None: not.
        leftover_pids: whom it left behind and who was signalled, None: nobody.
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
    """The server's process.

    Attributes:
        pid: its id.
        handle: its pidfd.
        socket: our end of the socket to it, None if it has hung up.
        started_at: when it began to serve.
        received: the beginning of a frame whose rest has not come.
        outgoing: what it has not read yet.
        latest_end: a frame that is to follow that, None for none.
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
    """The server through all its lives.

    Attributes:
        life: the present one, None between two.
        starts: how many there were.
        failures: in a row, for the back-off.
    """

    life: ChildProcessState | None
    starts: int
    failures: int


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A record that waits for room on the disk.

    Attributes:
        kind: its number.
        command: UUID.
        fields: the payload.
        position: of the command's merged output.
        time_us: when it happened.
    """

    kind: int
    command: str
    fields: dict[str, Any]
    position: int
    time_us: int


@dataclass(frozen=True, slots=True)
class JournalState:
    """The journal and what waits for it.

    Attributes:
        journal: its id.
        end: the position after its last record.
        recorded: how far it is in the database.
        pending: records that wait for room, oldest first.
        told_full: whether the log says that there is no room.
        consumer_acts: whether somebody records.
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
        written: journal position and id, in order.
        unwritten: whose end waits for room.
        child_has_adopted: whether the present server sends nothing old any more.
        given_back: those of them that were not started and may come again later.
    """

    ids: list[str]
    written: list[tuple[int, str]]
    unwritten: list[str]
    child_has_adopted: bool
    given_back: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TreeState:
    """Who belongs to which script.

    Attributes:
        mode: ``cgroup`` or ``walk``.
        base: the cgroup's directory, None for the walk.
        before: children from before the keeper: id and start.
        seen: by command, processes that were seen: id and start.
        sessions: by command, sessions that were seen.
        owners: orphans whose command is known: id, start, command.
    """

    mode: str
    base: str | None = None
    before: list[tuple[int, int]] = field(default_factory=list)
    seen: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    sessions: dict[str, list[int]] = field(default_factory=dict)
    owners: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ScriptUserState:
    """As whom scripts run; see `ScriptUser`."""

    uid: int
    gid: int
    groups: list[int]
    name: str
    home: str | None
    changes: bool


@dataclass(frozen=True, slots=True)
class SpawnerState:
    """What scripts are started with.

    Attributes:
        user: as whom.
        soft_limit: of descriptors, for scripts.
        hard_limit: of descriptors.
        raised: whether the keeper's own soft limit was raised.
        work: an open handle of the working directory.
    """

    user: ScriptUserState
    soft_limit: int
    hard_limit: int
    raised: bool
    work: int


@dataclass(frozen=True, slots=True)
class RemovalState:
    """A program that removes a private directory.

    Attributes:
        pid: its process id.
        path: the directory; its name is the command's id.
        uid: its owner.
        gid: its owner's group.
        turns: what is tried next: as the owner or not.
    """

    pid: int
    path: str
    uid: int
    gid: int
    turns: list[bool]


@dataclass(frozen=True, slots=True)
class ServiceManagerState:
    """What the service manager was told.

    Attributes:
        is_ready: whether it knows that the service is ready.
        owed: what could not be sent to it.
    """

    is_ready: bool
    owed: dict[str, str]


@dataclass(frozen=True, slots=True)
class UpgradeState:
    """The upgrade that this hand-over is the last step of.

    Attributes:
        number: of the upgrade, counted by data directory.
        release: to which release, as its server says.
        again: whether another one was asked for meanwhile.
        began_at: when it began.
    """

    number: int
    release: str
    again: bool
    began_at: float


@dataclass(frozen=True, slots=True)
class KeeperState:
    """All of it.

    Attributes:
        config: the fields of `KeeperConfig`.
        identity: the fields of `Identity`; the same process has the same one afterwards.
        lock: descriptor of the data directory's lock.
        listener: the listening socket, None for none.
        waiting: the frames of scripts that have not been started, in order.
        notes: what was mended at the keeper's start.
        child_was_ready: whether any server has ever been ready.
        child_serves: how the present one serves, empty if it does not yet.
        signals: that arrived and were not acted on.
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
