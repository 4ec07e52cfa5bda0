"""Every byte that a script prints is stored unchanged, whatever user the script runs as."""

import hashlib
import os
from collections.abc import Iterator

import pytest

from support.gates import Gate
from support.scripts import unique_seconds
from support.service import Service, eventually, processes_with, running_service

USERS = {"default": (), "root": ("--run-as", "root"), "numbered": ("--run-as", "12345")}
UIDS = {
    "default": "59999" if os.geteuid() == 0 else str(os.geteuid()),
    "root": "0",
    "numbered": "12345",
}
EVERY_BYTE = bytes(range(256))


@pytest.fixture(scope="module", params=list(USERS))
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with running_service(*USERS[request.param]) as running:
        command = running.run("id -u")
        assert running.bytes_of(command["id"]).decode().strip() == UIDS[request.param]
        yield running


def both(service: Service, script: str, **fields: object) -> tuple[bytes, bytes]:
    """Run a script that succeeds; return its stdout and stderr."""
    command = service.run(script, **fields)
    assert command["status"] == "succeeded", command
    stdout = service.bytes_of(command["id"], stream="stdout")
    stderr = service.bytes_of(command["id"], stream="stderr")
    assert command["output"] == {
        "bytes": len(stdout) + len(stderr),
        "stdout_bytes": len(stdout),
        "stderr_bytes": len(stderr),
        "discarded_bytes": 0,
    }
    return stdout, stderr


def test_streams_opened_by_name_keep_what_was_there(service: Service) -> None:
    script = """echo one; echo two >&2
    echo three > /dev/stdout; echo four > /dev/stderr
    echo five | tee /dev/stderr
    echo six | tee -a /dev/stdout
    python3 -c 'open("/proc/self/fd/1", "w").write("seven\\n")'"""
    assert both(service, script) == (b"one\nthree\nfive\nsix\nsix\nseven\n", b"two\nfour\nfive\n")


def test_a_writer_ends_after_its_reader(service: Service) -> None:
    assert both(service, "yes | head -1; echo ${PIPESTATUS[0]}") == (b"y\n141\n", b"")


def test_every_byte_value_in_any_order_is_kept(service: Service) -> None:
    script = f"""import sys
sys.stdout.buffer.write({EVERY_BYTE!r} * 3)
sys.stderr.buffer.write({EVERY_BYTE[::-1]!r} + b"\\xff\\xfe\\0")"""
    out, err = both(service, script, interpreter=["/usr/bin/python3"])
    assert out == EVERY_BYTE * 3
    assert err == EVERY_BYTE[::-1] + b"\xff\xfe\0"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("printf 'no newline'", (b"no newline", b"")),
        (":", (b"", b"")),
        ("printf '\\n'", (b"\n", b"")),
        ("exec >&- 2>&-; sleep 0.05; exit 0", (b"", b"")),
        ("echo kept; exec >&-; echo err >&2", (b"kept\n", b"err\n")),
        ("exec 2>&1; for i in 1 2; do echo o$i; echo e$i >&2; done", (b"o1\ne1\no2\ne2\n", b"")),
    ],
)
def test_short_or_empty_output_is_kept_exactly(
    service: Service, script: str, expected: tuple[bytes, bytes]
) -> None:
    assert both(service, script) == expected


def test_closed_streams_do_not_end_a_script(service: Service) -> None:
    both(service, "echo before; exec >&- 2>&-; sleep 0.2; echo after > went-on")
    assert both(service, "cat went-on; rm went-on") == (b"after\n", b"")


def test_one_line_of_100_mb_is_kept(service: Service) -> None:
    size = 100_000_000
    command = service.run(f"head -c {size} /dev/zero | tr '\\0' x")
    digest = hashlib.sha256()
    with service.client.stream("GET", f"/v1/commands/{command['id']}/output") as response:
        received = 0
        for part in response.iter_raw():
            digest.update(part)
            received += len(part)
    expected = hashlib.sha256()
    for _ in range(100):
        expected.update(b"x" * (size // 100))
    assert received == size
    assert digest.digest() == expected.digest()


def test_a_script_of_one_mebibyte_runs(service: Service) -> None:
    head = "echo begin\n: <<'EOS'\n"
    tail = "\nEOS\necho end"
    script = head + "x" * ((1 << 20) - len(head) - len(tail)) + tail
    assert len(script) == 1 << 20
    assert both(service, script) == (b"begin\nend\n", b"")


def test_stdin_of_one_mebibyte_comes_back(service: Service) -> None:
    text = "0123456789abcde\n" * (1 << 16)
    assert both(service, "cat", stdin=text) == (text.encode(), b"")


@pytest.mark.parametrize(
    "script",
    [
        '#!/usr/bin/python3\nimport sys\nsys.stdout.write("hello\\n")\n',
        '#!/usr/bin/env python3\nprint("hello")\n',
        '#!/usr/bin/perl -w\nprint "hello\\n";\n',
        "#!/bin/sh -e\necho hello\n",
    ],
)
def test_other_interpreters_run(service: Service, script: str) -> None:
    assert both(service, script) == (b"hello\n", b"")


def test_a_child_that_prints_after_its_parent_ended_is_kept(service: Service) -> None:
    gate = Gate(service)
    script = f"({gate.wait}; echo late; echo oops >&2) & echo early"
    command = service.submit(script, leftover_seconds=3600)["id"]
    eventually(lambda: service.get(command)["exited_at"], "its exit on record")
    gate.open()
    assert service.wait(command)["status"] == "succeeded"
    assert service.bytes_of(command, stream="stdout") == b"early\nlate\n"
    assert service.bytes_of(command, stream="stderr") == b"oops\n"


def test_a_script_may_read_its_own_pipe(service: Service) -> None:
    mark = unique_seconds()
    thief = service.submit(
        """exec 3</proc/self/fd/1
        (while :; do timeout 1 dd bs=64 count=2000 iflag=nonblock status=none <&3; done) \
            >/dev/null 2>&1 &
        for i in $(seq 2000); do echo $i; done
        kill $!""",
        leftover_seconds=0,
    )
    other = service.run(f"for i in $(seq 5000); do echo $i; done; : {mark}")
    assert service.bytes_of(other["id"]) == b"".join(b"%d\n" % i for i in range(1, 5001))
    service.wait(thief["id"])
    eventually(lambda: not processes_with(thief["id"]), "the thief to be gone")
    assert "fault" not in service.output()


def test_output_beyond_the_limit_is_counted(service: Service) -> None:
    command = service.run("yes | head -c 3000000; echo end >&2", output_limit_bytes=1_000_001)
    assert command["status"] == "succeeded"
    assert command["output"]["bytes"] == 1_000_001
    assert command["output"]["discarded_bytes"] == 2_000_003
    kept = service.bytes_of(command["id"], stream="stdout")
    assert kept == (b"y\n" * 500_001)[: len(kept)]
