"""Thousands of scripts run through an upgrade and through the death of the server."""

import contextlib
import os
import time
from collections.abc import Callable

import httpx2 as httpx
import pytest

from support.oracle import Script, Trial, numbered, quick
from support.scripts import keeper_of, peak_bytes
from support.service import ON_SQLITE, Service, eventually
from support.upgrades import upgrade

MANY = 100
LONG_MANY = 5000
KEEPER_BYTES = 60 << 20
"""With 5,000 scripts it has 15,000 descriptors, and hands over all its state in one piece."""

LINES = 199
PAUSE_SECONDS = 4


def sleeper() -> Script:
    """Prints a line, waits at the gate, and prints another line."""
    text = 'echo line 0000001; read -r < "$RUNS.gate"; echo line 0000002; exit 3'
    return Script("sleeper", text, ("failed", 3), stdout=numbered(1, 2))


def talker() -> Script:
    """Prints a line every few seconds until the gate is gone, and then all remaining lines."""
    text = f"""exec 9<> <(:); for ((i = 1; i <= {LINES}; i++)); do
            printf 'line %07d\\n' $i; printf 'error %07d\\n' $i >&2
            [ ! -e "$RUNS.gate" ] || read -t {PAUSE_SECONDS} -u 9
        done; exit 5"""
    return Script(
        "talker", text, ("failed", 5),
        stdout=numbered(1, LINES), stderr=numbered(1, LINES, "error"),
    )  # fmt: skip


def running(service: Service) -> int:
    """Return how many scripts the keeper runs; 0 while the server does not answer."""
    with contextlib.suppress(httpx.HTTPError):
        for line in service.client.get("/metrics").text.splitlines():
            if line.startswith("scriptservice_commands_running "):
                return int(float(line.split()[1]))
    return 0


def through_an_upgrade_and_a_death(service: Service, many: int) -> None:
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    trial.note_descriptors()
    gate = f"{trial.runs}.gate"
    os.mkfifo(gate)
    os.chmod(gate, 0o644)
    began = time.monotonic()
    trial.submit_all([talker() if number % 2 else sleeper() for number in range(many)])
    eventually(lambda: running(service) == many, "all to run", 300)
    print(f"{many} run after {time.monotonic() - began:.1f} s")
    report = upgrade(service)
    assert report.ok, report
    eventually(lambda: running(service) == many, "the next server to know all of them")
    service.kill_server()
    service.close_client()
    eventually(lambda: running(service) == many, "the one after it to know all of them")

    def let_all_through() -> bool:
        with contextlib.suppress(OSError):  # ENXIO: no script waits
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        return running(service) <= many // 2

    eventually(let_all_through, "the sleepers to end")
    os.unlink(gate)
    assert trial.verify(seconds=300) == {"succeeded": 1, "failed": many}
    peak = peak_bytes(keeper_of(service).pid)
    print(f"done after {time.monotonic() - began:.1f} s, the keeper had {peak} bytes at most")
    assert peak < KEEPER_BYTES


@ON_SQLITE
def test_many_run_through_an_upgrade_and_a_death(
    make_service: Callable[..., Service],
) -> None:
    through_an_upgrade_and_a_death(make_service().start(), MANY)


@pytest.mark.long
def test_five_thousand_run_through_an_upgrade_and_a_death(
    make_service: Callable[..., Service],
) -> None:
    through_an_upgrade_and_a_death(make_service().start(), LONG_MANY)
