"""The state that a keeper hands to its next program: all of its memory as plain data.

Each part of the keeper that has state has a class here. The part's ``to_state`` returns an object
of this class, and the part's ``restore`` or ``from_state`` takes such an object. Times are times of
the monotonic clock, in seconds. The start of a process is in clock ticks from boot. Descriptors are
given by number, and stay open across the exec. Bytes are in base64. If you add state to the keeper,
add a field with a default: every later release must load the files in ``tests/keeper/handovers``.
"""

from dataclasses import dataclass, field
from typing import Any

from scriptservice.keeper.life.kept_command import KeptCommand


@dataclass(frozen=True, slots=True)
class ChildProcessState:
    """The server's process; see `ChildProcess`.

    Attributes:
        pid: the server's process id.
        handle: the server's pidfd.
        socket: the keeper's end of the socket to the server, None if the server has closed its end.
        started_at: when the server was started; for a former successor, when it was greeted.
        received: the beginning of a frame whose rest has not arrived.
        outgoing: the frames that wait to be sent. If a part of the first frame was sent already,
            only the rest of that frame is here.
        latest_end: a frame with the journal's end that is sent after ``outgoing``, None if no such
            frame waits.
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
        life: the server's process, None while no server runs.
        starts: how many servers were greeted.
        failures: how many servers died in a row, for the back-off.
    """

    life: ChildProcessState | None
    starts: int
    failures: int


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A journal record that waits for room on the disk.

    Attributes:
        kind: the number of the record's `Kind`.
        command: the command's UUID.
        fields: the payload.
        position: length of the command's merged output, in bytes.
        time_us: when the event happened, in microseconds since 1970 UTC.
    """

    kind: int
    command: str
    fields: dict[str, Any]
    position: int
    time_us: int


@dataclass(frozen=True, slots=True)
class JournalState:
    """The journal, with the records that are not written to it yet; see `Journal`.

    Attributes:
        journal: the journal's id.
        end: the journal position after the last record that is written.
        recorded: the journal position up to which the database has stored the journal.
        pending: the records that wait for room on the disk, oldest first.
        told_full: whether the keeper has already logged the present lack of room.
        consumer_acts: whether a server is storing the journal at present.
    """

    journal: str
    end: int
    recorded: int
    pending: list[PendingRecord]
    told_full: bool
    consumer_acts: bool


@dataclass(frozen=True, slots=True)
class EndedIdsState:
    """The ids of ended commands, which are not started again; see `EndedIds`.

    Attributes:
        ids: the ids of all these commands.
        written: the commands whose end is in the journal, in order: for each command the journal
            position after its end, and its id.
        unwritten: the ids of the commands whose end waits for room on the disk.
        child_has_adopted: whether the present server has sent all commands that it had to send
            again.
        given_back: the ids of commands that were not started and may be sent again later.
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
        before: children that the process had before it became the keeper: the process id and the
            start of each child.
        seen: by command id, the processes that were seen in the command's tree: the process id and
            the start of each process.
        sessions: by command id, the ids of the sessions that were seen in the command's tree.
        owners: the orphans whose command is known: process id, start and command id of each.
        descent: whether the fields above, apart from ``base``, are known in mode ``cgroup`` too.
    """

    mode: str
    base: str | None = None
    before: list[tuple[int, int]] = field(default_factory=list)
    seen: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    sessions: dict[str, list[int]] = field(default_factory=dict)
    owners: list[tuple[int, int, str]] = field(default_factory=list)
    descent: bool = False


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
    """The user, limits and directory with which scripts are started; see `Spawner`.

    Attributes:
        user: the user that scripts run as.
        soft_limit: the soft limit of descriptors for scripts.
        hard_limit: the hard limit of descriptors for scripts.
        raised: whether the keeper has raised its own soft limit of descriptors.
        work: descriptor of the working directory that scripts share.
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
        pid: the program's process id.
        path: the path of the directory; the last part is the command's id.
        uid: the user id of the directory's owner.
        gid: the id of the directory's group.
        turns: the attempts that may follow the present attempt, in order: True for an attempt as
            the directory's owner, False for an attempt as the keeper's user.
        deadline_at: when the program is killed if it still runs; None if the release that handed
            over knew no such time.
    """

    pid: int
    path: str
    uid: int
    gid: int
    turns: list[bool]
    deadline_at: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceManagerState:
    """The notifications to the service manager; see `ServiceManager`.

    Attributes:
        is_ready: whether the keeper has told the service manager that the service is ready.
        owed: the lines that could not be sent yet: the value of each line by the line's name.
    """

    is_ready: bool
    owed: dict[str, str]


@dataclass(frozen=True, slots=True)
class UpgradeState:
    """The upgrade whose last step is this hand-over; see `Upgrade`.

    Attributes:
        number: the number of the upgrade; a data directory's upgrades are counted from 1.
        release: the new release, as the new server named it.
        again: whether another upgrade was requested during this one.
        began_at: when the upgrade began.
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
        identity: the fields of `Identity`; they stay the same, since the process stays the same.
        lock: descriptor of the data directory's lock file.
        listener: descriptor of the listening socket, None for a worker.
        commands: the commands whose processes were made and that are not closed.
        waiting: the fields of each `SpawnSpec` that waits in the start queue, in order.
        notes: a sentence for each repair of the journal at the keeper's start.
        child_was_ready: whether any server of this keeper has ever been ready.
        child_serves: the status of the present server, empty if that server does not answer yet.
        signals: numbers of the signals that arrived and were not handled yet.
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
    commands: list[KeptCommand]
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
            script_input = None if command.input is None else command.input.descriptor
            own = (command.handle, command.status, script_input)
            kept |= {each for each in own if each is not None}
        return kept
