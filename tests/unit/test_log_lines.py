"""Log lines: their two formats, their length, and a stderr that takes no more lines."""

import json
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.protocol.log_lines import LINE_BYTES, LogWriter
from support.service import PATIENCE_SECONDS

AT = 1_795_450_800_000_007


def test_the_two_formats() -> None:
    fields = {"command_id": "x-1", "exit_code": None, "reason": 'it said "no"', "run_seconds": 0.5}
    line = LogWriter("server", "alpha", "json").format_line(AT, "info", "command_failed", fields)
    assert json.loads(line) == {
        "timestamp": "2026-11-23T16:20:00.000007Z",
        "level": "info",
        "event": "command_failed",
        "component": "server",
        "host": "alpha",
        **fields,
    }
    line = LogWriter("keeper", "alpha", "console").format_line(
        AT, "warning", "command_failed", fields
    )
    assert line.decode() == (
        "2026-11-23T16:20:00.000007Z warning keeper command_failed command_id=x-1 "
        'reason="it said \\"no\\"" run_seconds=0.5 host=alpha\n'
    )


@pytest.mark.parametrize("form", ["json", "console"])
@given(
    event=st.text(max_size=3000),
    fields=st.dictionaries(
        st.sampled_from(["exception", "detail", "path"]),
        st.text(max_size=9000) | st.integers() | st.lists(st.text(), max_size=500) | st.none(),
    ),
)
def test_any_event_is_one_line_that_fits(form: str, event: str, fields: dict[str, object]) -> None:
    line = LogWriter("server", "alpha", form).format_line(AT, "error", event, fields)
    assert len(line) <= LINE_BYTES
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line[:-1].decode().isprintable()
    if form == "json":
        assert json.loads(line)["level"] == "error"


def test_the_end_of_a_long_trace_is_kept() -> None:
    trace = "frame\n" * 2000 + "ValueError: the cause"
    line = LogWriter("server", "alpha", "json").format_line(AT, "error", "x", {"exception": trace})
    assert json.loads(line)["exception"].endswith("ValueError: the cause")


PROGRAM = """
import sys
from scriptservice.protocol.log_lines import LogWriter
lines = LogWriter("server", "alpha", "json")
for number in range(4000):
    lines.write(7, [lines.format_line(7, "info", "event", {"number": number})])
print("written", flush=True)
sys.stdin.read(1)
lines.write(7, [lines.format_line(7, "info", "last", {})] * 40)
"""


def test_dropped_lines_are_counted_exactly() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        # It gets here although its stderr is not read.
        assert process.stdout.readline() == b"written\n"
        text = os.read(process.stderr.fileno(), 1 << 20)
        process.stdin.close()
        text += process.stderr.read()
        assert process.wait(PATIENCE_SECONDS) == 0
    entries = [json.loads(line) for line in text.splitlines()]
    events = [entry["event"] for entry in entries]
    assert 0 < events.count("event") < 4000
    (dropped,) = (entry["lines"] for entry in entries if entry["event"] == "log_lines_dropped")
    assert events.count("event") + dropped == 4000
    assert events.count("last") == 40
    assert events.index("log_lines_dropped") < events.index("last")


@pytest.mark.parametrize("kind", ["file", "terminal", "socket", "closed"])
def test_every_kind_of_stderr_works(kind: str, tmp_path: Path) -> None:
    program = PROGRAM.replace("4000", "3").replace("sys.stdin.read(1)", "").replace("* 40", "")
    if kind == "closed":
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.close(2)\n{program}"], check=False
        )
        assert done.returncode == 0
        return
    if kind == "file":
        path = tmp_path / "log"
        theirs = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        ours = os.open(path, os.O_RDONLY)
    elif kind == "terminal":
        ours, theirs = pty.openpty()
    else:
        pair = socket.socketpair()
        ours, theirs = (end.detach() for end in pair)
    subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True)
    text = os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert events == ["event", "event", "event", "last"]
