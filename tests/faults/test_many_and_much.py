"""Many scripts at a time, and much output of one: all of it arrives, and memory stays small."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.scripts import keeper_of, peak_bytes
from support.service import PATIENCE_SECONDS, Service, eventually

MANY = [300, pytest.param(1000, marks=pytest.mark.long)]
MUCH_BYTES = [256 << 20, pytest.param(1 << 30, marks=pytest.mark.long)]
"""The smaller size is large enough to show if the output is kept in memory."""
SERVER_BYTES = 150 << 20
KEEPER_BYTES = 40 << 20

BLOCK_BYTES = 1 << 16
FILLER = "bytes(range(256)) * 255 + b'x' * 240"

PRINTER = f"""
import os, sys
filler = {FILLER}
for number in range(int(sys.argv[1]) // {BLOCK_BYTES}):
    block = b"%015d\\n" % number + filler
    while block:
        block = block[os.write(1, block):]
"""


@pytest.mark.parametrize("many", MANY)
def test_hundreds_of_scripts_at_once(make_service: Callable[..., Service], many: int) -> None:
    service = make_service().start()
    assert service.client.get("/healthz").status_code == 200  # the threads share this client

    gate = service.data_dir / "work" / "gate"
    os.mkfifo(gate)
    gate.chmod(0o644)

    def submit(number: int) -> str:
        script = f"read -r <gate; echo {number}; echo e{number} >&2"
        return str(service.submit(script)["id"])

    with ThreadPoolExecutor(4) as pool:
        commands = list(pool.map(submit, range(many)))

    def ones_that_are(status: str) -> int:
        found = service.client.get("/v1/commands", params={"limit": 1000, "status": status})
        return len(found.json()["items"])

    def open_the_gate() -> bool:
        with contextlib.suppress(OSError):  # ENXIO: no script waits
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        return ones_that_are("succeeded") == many

    eventually(lambda: ones_that_are("running") == many, "all to run")
    eventually(open_the_gate, "all to succeed")
    for number, command in enumerate(commands):
        assert service.bytes_of(command, stream="stdout") == b"%d\n" % number
        assert service.bytes_of(command, stream="stderr") == b"e%d\n" % number
    assert peak_bytes(keeper_of(service).pid) < KEEPER_BYTES
    assert peak_bytes(service.server_pid) < SERVER_BYTES


@pytest.mark.parametrize("much", MUCH_BYTES)
def test_much_output_arrives_in_little_memory(
    make_service: Callable[..., Service], much: int
) -> None:
    service = make_service().start()
    keeper = keeper_of(service).pid
    command = service.submit(PRINTER, interpreter=["/usr/bin/python3"], args=[str(much)])["id"]
    digest, received = hashlib.sha256(), 0
    path = f"/v1/commands/{command}/output"
    with service.client.stream(
        "GET", path, params={"follow": "true"}, timeout=PATIENCE_SECONDS
    ) as response:
        for part in response.iter_raw():
            digest.update(part)
            received += len(part)
    assert received == much
    expected = hashlib.sha256()
    filler = bytes(range(256)) * 255 + b"x" * 240
    for number in range(much // BLOCK_BYTES):
        expected.update(b"%015d\n" % number + filler)
    assert digest.digest() == expected.digest()
    final = service.wait(command)
    assert final["status"] == "succeeded"
    assert final["output"]["stdout_bytes"] == much
    assert service.bytes_of(command, tail=240) == b"x" * 240
    print(f"keeper {peak_bytes(keeper)}, server {peak_bytes(service.server_pid)} bytes at most")
    assert peak_bytes(keeper) < KEEPER_BYTES
    assert peak_bytes(service.server_pid) < SERVER_BYTES
    journal = service.data_dir / "journal"
    eventually(
        lambda: sum(path.stat().st_size for path in journal.iterdir()) < 8 << 20,
        "the journal to shrink",
    )
