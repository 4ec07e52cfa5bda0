"""A journal that is torn, damaged, partly missing or surrounded by rubbish: the service starts.

What can be read counts, what cannot be known is lost, nobody survives and nothing runs twice. One
service goes through all of it.
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

SOME_AT_ONCE = ("--max-running", "7")
SEGMENT = 64 << 20


@pytest.fixture(scope="module")
def faults() -> Path:
    """Where is said what is to happen at which fault point."""
    return new_directory()


@pytest.fixture(scope="module")
def hurt(faults: Path) -> Iterator[Service]:
    """The service whose journal is damaged again and again."""
    service = Service(None, *SOME_AT_ONCE, environment={VARIABLE: str(faults)})
    try:
        yield service.start()
    finally:
        service.close()


def journal_of(service: Service) -> Path:
    return service.data_dir / "journal"


def segments_of(service: Service) -> list[Path]:
    return sorted(journal_of(service).glob("*.journal"))


def filler(size: int) -> Script:
    """Prints so much, all the same, so that what is left of it is a prefix, whatever is missing."""
    text = f"head -c {size} /dev/zero | tr '\\0' x; sleep 3600"
    return Script("filler", text, stdout=b"x" * size)


def scripts() -> list[Script]:
    """Return those that end, that last, that resist; more than run at once."""
    return [
        quick(7), stubborn(), parent(), ticker(4), printer(3_000), late(2), late(2),
        quick(), quick(3),
    ]  # fmt: skip


def with_much_unrecorded(service: Service) -> Trial:
    """Let a server be stopped while scripts start, print and end; then kill it and the keeper."""
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
    """Return what the last segment holds: kinds, and where each begins and ends in its file."""
    found, base = [], segment_bases(str(journal_of(service)))[-1]
    start = SEGMENT_HEADER_BYTES
    for record in scan(str(journal_of(service)), base):
        found.append((record.kind, start, record.end - base))
        start = record.end - base
    return found


def ends_in(service: Service) -> int:
    """Return how many ends the last segment holds."""
    return sum(kind == Kind.CLOSED for kind, *_ in records(service))


def flip(service: Service, offset: int) -> None:
    """Turn over the bits of one byte of the last segment."""
    with segments_of(service)[-1].open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def last_of(service: Service, kind: Kind) -> int:
    """Return where the last record of a kind begins that others follow."""
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
def test_flipped_bits(harm: str, hurt: Service) -> None:
    trial = with_much_unrecorded(hurt)
    said = len(hurt.output())
    HARMS[harm](hurt)
    hurt.start()
    trial.verify(keeper_died=True)
    assert "journal_mended" in hurt.output()[said:]
    assert trial.submit(quick())
    trial.verify(keeper_died=True)


@ON_SQLITE
@pytest.mark.parametrize("flags", [(), ("--no-use-cgroups",)], ids=["cgroup", "walk"])
def test_who_was_started_behind_the_damage_does_not_survive(
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
    trial.nobody_is_left()


def test_rubbish_beside_it(hurt: Service) -> None:
    """What waited and never started is not lost by it."""
    trial = with_much_unrecorded(hurt)
    said = len(hurt.output())
    journal = journal_of(hurt)
    for name in ("notes.txt", "notes.journal", f"{10**15:020d}.journal"):
        (journal / name).write_bytes(os.urandom(5_000))
    (journal / f"{10**16:020d}.journal").touch()
    (journal / "recorded").write_bytes(b"\xff" * 12)
    hurt.start()
    for path in [*journal.glob("notes.*"), *journal.glob("*.damaged")]:
        path.unlink()  # the trial counts files
    found = trial.verify(keeper_died=True)
    assert found.get("lost", 0) <= int(SOME_AT_ONCE[1]), found
    assert "set aside journal segment" in hurt.output()[said:]
    assert "ignored the damaged file with the stored position" in hurt.output()[said:]


@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.long), -1, None])
def test_a_segment_is_missing(which: int | None, hurt: Service) -> None:
    """The first, one in the midst, the last, all."""
    trial = Trial(hurt)
    trial.submit(quick())
    trial.settle()
    trial.submit(filler(2 * SEGMENT + 9_000_000))
    trial.submit_all(scripts())
    if which is not None:
        os.kill(hurt.server_pid, signal.SIGSTOP)
        eventually(lambda: len(segments_of(hurt)) == 3, "three segments")
        eventually(lambda: segments_of(hurt)[-1].stat().st_size > 9_000_000, "all output")
    hurt.kill_both()
    segments = segments_of(hurt)
    for path in segments if which is None else [segments[which]]:
        path.unlink()
    if which is None:
        # Nothing is left that tells whose they are.
        for process in processes_with(trial.mark):
            process.kill()
    hurt.start()
    trial.verify(keeper_died=True)


def test_damage_under_a_running_service(hurt: Service, faults: Path) -> None:
    """What ended in the damaged part is not started again, by no server that follows."""
    trial = Trial(hurt)
    trial.submit(quick())
    trial.settle()
    keeper = keeper_of(hurt)
    before = ends_in(hurt)
    keeper.send_signal(signal.SIGSTOP)
    arm(str(faults), "dispatch.sent", "pass 3")
    gate = Gate(hurt)
    lasting = f"{gate.block}; echo line 1; exit 5"
    trial.submit(Script("lasting", lasting, ("failed", 5), stdout=b"line 1\n"))
    for _ in range(3):
        trial.submit(quick(7))
    eventually(lambda: not pending(str(faults), "dispatch.sent"), "all four to be sent")
    server = psutil.Process(hurt.server_pid)
    server.send_signal(signal.SIGSTOP)
    keeper.send_signal(signal.SIGCONT)
    eventually(lambda: ends_in(hurt) >= before + 3, "their ends")
    starts = [start for kind, start, _ in records(hurt) if kind == Kind.STARTING]
    flip(hurt, starts[-4])
    server.send_signal(signal.SIGCONT)
    psutil.wait_procs([server], PATIENCE_SECONDS)
    # What is lost is known, so what comes now stands behind the damage.
    for sent in trial.sent[2:]:
        hurt.wait(str(sent.id))
    gate.open()
    finals = [hurt.wait(str(sent.id)) for sent in trial.sent]
    assert [final["status"] for final in finals] == ["succeeded", "failed", "lost", "lost", "lost"]
    hurt.kill_server()
    trial.verify(keeper_died=True)


# A power cut


@pytest.fixture
def after_a_reboot() -> Iterator[tuple[str, ...]]:
    """What makes a program believe that the machine was started anew."""
    directory = new_directory()
    path = directory / "boot_id"
    path.write_text(f"{uuid4()}\n")
    bind = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    yield "unshare", "--mount", "sh", "-c", bind, str(path)
    shutil.rmtree(directory)


def lose_the_tail(service: Service) -> None:
    """Nothing that was not recorded has reached the disk."""
    recorded = int.from_bytes((journal_of(service) / "recorded").read_bytes()[:8], "little")
    last = segments_of(service)[-1]
    # A segment begins with a record that is synced before the one before it is dropped.
    os.truncate(last, max(recorded - int(last.stem), records(service)[0][2]))


def lose_more_than_the_tail(service: Service) -> None:
    """Not even what was recorded has."""
    os.truncate(segments_of(service)[-1], records(service)[1][1])


def lose_the_tails_bytes(service: Service) -> None:
    """The size has, and not the bytes."""
    start, end = [at for kind, *at in records(service) if kind == Kind.OUTPUT][-1]
    last = segments_of(service)[-1]
    cut = (start + HEADER_BYTES + end) // 2
    size = last.stat().st_size
    os.truncate(last, cut)
    os.truncate(last, size + 5_000)


@pytest.mark.needs_mounts
@pytest.mark.parametrize("cut", [lose_the_tail, lose_more_than_the_tail, lose_the_tails_bytes])
def test_a_power_cut(
    cut: Callable[[Service], None], hurt: Service, after_a_reboot: tuple[str, ...]
) -> None:
    trial = with_much_unrecorded(hurt)
    for process in processes_with(trial.mark):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # What has the same ids after a reboot is somebody else's.
    stranger = subprocess.Popen(
        ["sleep", "3600"], env={COMMAND_ID_VARIABLE: str(trial.sent[-1].id)}
    )
    cut(hurt)
    hurt.under = after_a_reboot
    try:
        hurt.start()
        found = trial.verify(keeper_died=True)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        hurt.under = ()
    assert found["lost"] <= int(SOME_AT_ONCE[1])
    hurt.kill_both()
    hurt.start()
    trial.verify(keeper_died=True)
