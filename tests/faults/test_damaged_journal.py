"""The service starts with a journal that is torn, damaged, partly missing or amid rubbish files.

What can be read is stored, what cannot be known is lost, no process survives and nothing runs
twice. One service goes through all these tests.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from scriptservice.keeper.journal.journal_repair import scan
from scriptservice.keeper.spawn.spawner import COMMAND_ID_VARIABLE
from scriptservice.protocol.fault_points import VARIABLE, arm, pending
from scriptservice.protocol.journal_format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    segment_bases,
)
from support.gates import Gate
from support.oracle import Script, Trial, late, parent, printer, quick, stubborn, ticker
from support.scripts import keeper_of
from support.service import (
    ON_SQLITE,
    PATIENCE_SECONDS,
    Service,
    eventually,
    new_directory,
    processes_with,
)

MAX_RUNNING_FLAGS = ("--max-running", "7")
SEGMENT = 64 << 20


@pytest.fixture(scope="module")
def faults() -> Path:
    """The directory in which fault points are armed."""
    return new_directory()


@pytest.fixture(scope="module")
def target(faults: Path) -> Iterator[Service]:
    """The service whose journal each test damages."""
    service = Service(None, *MAX_RUNNING_FLAGS, environment={VARIABLE: str(faults)})
    try:
        yield service.start()
    finally:
        service.close()


def journal_of(service: Service) -> Path:
    return service.data_dir / "journal"


def segments_of(service: Service) -> list[Path]:
    return sorted(journal_of(service).glob("*.journal"))


def filler(size: int) -> Script:
    """Prints ``size`` equal bytes, so that the rest is a prefix, whichever segment is missing."""
    text = f"head -c {size} /dev/zero | tr '\\0' x; sleep 3600"
    return Script("filler", text, stdout=b"x" * size)


def scripts() -> list[Script]:
    """Return scripts that end, that run on and that resist a stop; more than run at a time."""
    return [
        quick(7), stubborn(), parent(), ticker(4), printer(3_000), late(2), late(2),
        quick(), quick(3),
    ]  # fmt: skip


def with_much_not_stored(service: Service) -> Trial:
    """Suspend the server while scripts start, print and end; then kill server and keeper."""
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    position = keeper_end(service)
    trial.submit_all(scripts())
    os.kill(service.server_pid, signal.SIGSTOP)
    eventually(lambda: keeper_end(service) > position + 60_000, "output in the journal")
    service.kill_both()
    return trial


def keeper_end(service: Service) -> int:
    last = segments_of(service)[-1]
    return int(last.stem) + last.stat().st_size


def records(service: Service) -> list[tuple[Kind, int, int]]:
    """Return the records of the last segment: kind, and begin and end in the file."""
    found, base = [], segment_bases(str(journal_of(service)))[-1]
    start = SEGMENT_HEADER_BYTES
    for record in scan(str(journal_of(service)), base):
        found.append((record.kind, start, record.end - base))
        start = record.end - base
    return found


def ends_in(service: Service) -> int:
    """Return how many CLOSED records the last segment contains."""
    return sum(kind == Kind.CLOSED for kind, *_ in records(service))


def flip(service: Service, offset: int) -> None:
    """Flip all bits of one byte of the last segment."""
    with segments_of(service)[-1].open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def last_of(service: Service, kind: Kind) -> int:
    """Return where the last record of a kind begins, the last record of all left out."""
    return [start for each, start, _ in records(service)[:-1] if each == kind][-1]


HARMS: dict[str, Callable[[Service], None]] = {
    "checksum of a start": lambda service: flip(service, last_of(service, Kind.STARTED)),
    "payload of an exit": lambda service: flip(
        service, last_of(service, Kind.EXITED) + HEADER_BYTES + 3
    ),
    "length of output": lambda service: flip(service, last_of(service, Kind.OUTPUT) + 5),
    "header of the segment": lambda service: flip(service, 9),
}


@pytest.mark.parametrize("harm", HARMS)
def test_flipped_bits(harm: str, target: Service) -> None:
    trial = with_much_not_stored(target)
    said = len(target.output())
    HARMS[harm](target)
    target.start()
    trial.verify(keeper_died=True)
    assert "journal_mended" in target.output()[said:]
    assert trial.submit(quick())
    trial.verify(keeper_died=True)


@ON_SQLITE
@pytest.mark.parametrize("flags", [(), ("--no-use-cgroups",)], ids=["cgroup", "walk"])
def test_a_script_recorded_after_the_damage_does_not_survive(
    flags: tuple[str, ...],
    make_service: Callable[..., Service],
    database_kind: str,
) -> None:
    service = make_service(*flags).start()
    trial = Trial(service)
    for _ in range(2):
        sent = trial.submit(Script("lasting", "trap '' TERM; echo line 1; sleep 3600; sleep 3600"))
        service.wait_for_output(str(sent.id), b"line 1")
    service.kill_both()
    starts = [start for kind, start, _ in records(service) if kind == Kind.STARTED]
    flip(service, starts[0] + HEADER_BYTES + 3)
    service.start()
    trial.keeper_died()
    assert [final["status"] for final in trial.settle()] == ["lost", "lost"]
    trial.check_nothing_left()


def test_rubbish_files_beside_the_journal(target: Service) -> None:
    """Commands that were queued are not lost."""
    trial = with_much_not_stored(target)
    said = len(target.output())
    journal = journal_of(target)
    for name in ("notes.txt", "notes.journal", f"{10**15:020d}.journal"):
        (journal / name).write_bytes(os.urandom(5_000))
    (journal / f"{10**16:020d}.journal").touch()
    (journal / "recorded").write_bytes(b"\xff" * 12)
    target.start()
    for path in [*journal.glob("notes.*"), *journal.glob("*.damaged")]:
        path.unlink()  # the trial expects no other files
    found = trial.verify(keeper_died=True)
    assert found.get("lost", 0) <= int(MAX_RUNNING_FLAGS[1]), found
    assert "set aside journal segment" in target.output()[said:]
    assert "ignored the damaged file with the stored position" in target.output()[said:]


@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.long), -1, None])
def test_a_segment_is_missing(which: int | None, target: Service) -> None:
    """The missing segment is the first, a middle one, the last one, or all are missing."""
    trial = Trial(target)
    trial.submit(quick())
    trial.settle()
    trial.submit(filler(2 * SEGMENT + 9_000_000))
    trial.submit_all(scripts())
    if which is not None:
        os.kill(target.server_pid, signal.SIGSTOP)
        eventually(lambda: len(segments_of(target)) == 3, "three segments")
        eventually(lambda: segments_of(target)[-1].stat().st_size > 9_000_000, "all output")
    target.kill_both()
    segments = segments_of(target)
    for path in segments if which is None else [segments[which]]:
        path.unlink()
    if which is None:
        # Without a journal, the next keeper cannot know these processes.
        for process in processes_with(trial.mark):
            process.kill()
    target.start()
    trial.verify(keeper_died=True)


def test_damage_under_a_running_service(target: Service, faults: Path) -> None:
    """Commands that ended in the damaged part are not started again by any later server."""
    trial = Trial(target)
    trial.submit(quick())
    trial.settle()
    keeper = keeper_of(target)
    before = ends_in(target)
    keeper.send_signal(signal.SIGSTOP)
    arm(str(faults), "dispatch.sent", "pass 3")
    gate = Gate(target)
    lasting = f"{gate.block}; echo line 1; exit 5"
    trial.submit(Script("lasting", lasting, ("failed", 5), stdout=b"line 1\n"))
    for _ in range(3):
        trial.submit(quick(7))
    eventually(lambda: not pending(str(faults), "dispatch.sent"), "all four to be sent")
    server = psutil.Process(target.server_pid)
    server.send_signal(signal.SIGSTOP)
    keeper.send_signal(signal.SIGCONT)
    eventually(lambda: ends_in(target) >= before + 3, "their ends")
    starts = [start for kind, start, _ in records(target) if kind == Kind.STARTING]
    flip(target, starts[-4])
    server.send_signal(signal.SIGCONT)
    psutil.wait_procs([server], PATIENCE_SECONDS)
    # When the loss is known, the following records are behind the damage.
    for sent in trial.sent[2:]:
        target.wait(str(sent.id))
    gate.open()
    finals = [target.wait(str(sent.id)) for sent in trial.sent]
    assert [final["status"] for final in finals] == ["succeeded", "failed", "lost", "lost", "lost"]
    target.kill_server()
    trial.verify(keeper_died=True)


# A power cut


@pytest.fixture
def after_a_reboot() -> Iterator[tuple[str, ...]]:
    """A command that runs a program with another boot id, as after a reboot."""
    directory = new_directory()
    path = directory / "boot_id"
    path.write_text(f"{uuid4()}\n")
    bind = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    yield "unshare", "--mount", "sh", "-c", bind, str(path)
    shutil.rmtree(directory)


def lose_the_tail(service: Service) -> None:
    """Only what was stored in the database has reached the disk."""
    recorded = int.from_bytes((journal_of(service) / "recorded").read_bytes()[:8], "little")
    last = segments_of(service)[-1]
    # The first record of a segment is synced before the segment before it is dropped.
    os.truncate(last, max(recorded - int(last.stem), records(service)[0][2]))


def lose_more_than_the_tail(service: Service) -> None:
    """Not even what was stored in the database has reached the disk."""
    os.truncate(segments_of(service)[-1], records(service)[1][1])


def lose_the_bytes_of_the_tail(service: Service) -> None:
    """The size of the file has reached the disk, but not the bytes of its tail."""
    start, end = [at for kind, *at in records(service) if kind == Kind.OUTPUT][-1]
    last = segments_of(service)[-1]
    cut = (start + HEADER_BYTES + end) // 2
    size = last.stat().st_size
    os.truncate(last, cut)
    os.truncate(last, size + 5_000)


@pytest.mark.needs_mounts
@pytest.mark.parametrize(
    "cut", [lose_the_tail, lose_more_than_the_tail, lose_the_bytes_of_the_tail]
)
def test_a_power_cut(
    cut: Callable[[Service], None], target: Service, after_a_reboot: tuple[str, ...]
) -> None:
    trial = with_much_not_stored(target)
    for process in processes_with(trial.mark):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # After a reboot, a process with the same ids belongs to somebody else.
    stranger = subprocess.Popen(
        ["sleep", "3600"], env={COMMAND_ID_VARIABLE: str(trial.sent[-1].id)}
    )
    cut(target)
    target.under = after_a_reboot
    try:
        target.start()
        found = trial.verify(keeper_died=True)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        target.under = ()
    assert found["lost"] <= int(MAX_RUNNING_FLAGS[1])
    target.kill_both()
    target.start()
    trial.verify(keeper_died=True)
