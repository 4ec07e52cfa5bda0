"""An error of the disk that is not a full disk: the journal tries again, and loses nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptservice.protocol.fault_points import VARIABLE, arm, pending
from support.service import Service, eventually, new_directory

LINES = 200
SCRIPT = f"for i in $(seq {LINES}); do echo $i; done; exit 3"
OUTPUT = b"".join(b"%d\n" % number for number in range(1, LINES + 1))
LARGE_BYTES = 6_000_000


@pytest.fixture(scope="module")
def database_kind() -> str:
    """The kind of database: the journal does not depend on it."""
    return "sqlite"


@pytest.fixture(scope="module")
def faults() -> Path:
    """The directory in which fault points are armed."""
    return new_directory()


@pytest.fixture(scope="module")
def target(faults: Path) -> Iterator[Service]:
    service = Service(None, environment={VARIABLE: str(faults)})
    try:
        yield service.start()
    finally:
        service.close()


@pytest.mark.parametrize(
    ("point", "passes"),
    [
        *(("journal.append", passes) for passes in range(4)),  # STARTING to CLOSED
        ("journal.splice", 0),
        ("journal.headed", 0),
        ("journal.spliced", 0),
    ],
)
def test_every_record_is_written_after_an_error(
    target: Service, faults: Path, point: str, passes: int
) -> None:
    arm(str(faults), point, f"fail ESTALE {passes}")
    commands = [target.submit(SCRIPT)["id"] for _ in range(3)]
    for command in commands:
        final = target.wait(command)
        assert (final["status"], final["exit_code"]) == ("failed", 3)
        assert target.bytes_of(command) == OUTPUT
    assert not pending(str(faults), point)
    assert target.ready()["status"] == "ready"


def test_a_segment_is_begun_after_an_error(target: Service, faults: Path) -> None:
    arm(str(faults), "journal.rotate", "fail ESTALE")
    large = target.submit(f"head -c {LARGE_BYTES} /dev/zero")["id"]
    assert target.wait(large)["output"]["bytes"] == LARGE_BYTES
    eventually(lambda: not pending(str(faults), "journal.rotate"), "the error")
    command = target.submit(SCRIPT)["id"]
    target.wait(command)
    assert target.bytes_of(command) == OUTPUT
