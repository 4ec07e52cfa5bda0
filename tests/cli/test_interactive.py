"""``run -i``, ``attach``, ``send`` and ``signal``, with pipes and on a terminal."""

import hashlib
import os
import signal
import subprocess
import sys
import termios
from typing import Any

import pytest

from support.cli import Terminal, cli, environment
from support.gates import Gate
from support.service import PATIENCE_SECONDS, Service, eventually

CTRL_C, CTRL_D, DETACH = b"\x03", b"\x04", b"\x1d"


def with_input(service: Service, data: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return cli(service, *words, stdin=None, input=data)


def mode(terminal: Terminal) -> list[Any]:
    """Return the mode of a terminal, without the control characters."""
    return termios.tcgetattr(terminal._descriptor)[:4]


def running(service: Service, label: str) -> str:
    """Return the id of the command that has a label and runs."""

    def there() -> str:
        query = {"status": "running", "label": label}
        items = service.client.get("/v1/commands", params=query).json()["items"]
        return items[0]["id"] if items else ""

    return str(eventually(there, "a command to run"))


# run -i


def test_a_pipe_is_sent_and_its_end_closes_the_input(service: Service) -> None:
    data = bytes(range(256)) * 5000
    ended = with_input(service, data, "run", "-i", "sha256sum; exit 7")
    assert ended.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert (ended.returncode, ended.stderr) == (7, b"")


def test_input_goes_on_while_output_comes(service: Service) -> None:
    script = "while read -r a; do echo $a; done"
    with subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "run", "-i", script],
        env=environment(service),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            process.stdin.flush()
            assert process.stdout.readline() == word
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(PATIENCE_SECONDS) == 0


def test_the_script_need_not_read_its_input(service: Service) -> None:
    ended = with_input(service, b"x" * (3 << 20), "run", "-i", "echo out; exit 5")
    assert (ended.returncode, ended.stdout, ended.stderr) == (5, b"out\n", b"")


def test_input_that_another_one_takes(service: Service) -> None:
    for words in (["-f", "-"], ["--stdin", "-", "cat"]):
        ended = with_input(service, b"x", "run", "-i", *words)
        assert ended.returncode == 2
        assert b"standard input" in ended.stderr


def test_on_a_terminal_the_script_has_one_too(service: Service) -> None:
    script = (
        "echo $TERM; stty size; trap 'echo caught' INT; read -rp 'name: ' a; echo hello $a; exit 3"
    )
    terminal = Terminal(service, "run", "-i", script)
    before = mode(terminal)
    terminal.read_until(lambda seen: b"name: " in seen)
    assert b"Ctrl-] to detach" in terminal.seen
    assert b"40 120" in terminal.seen
    kind = environment(service).get("TERM") or "xterm-256color"
    assert f"{kind}\r\n".encode() in terminal.seen
    assert mode(terminal) != before
    terminal.type(CTRL_C)
    terminal.read_until(lambda seen: b"caught" in seen)
    terminal.type(b"you\r")
    terminal.read_until(lambda seen: b"hello you" in seen)
    code, seen = terminal.end()
    assert (code, seen.endswith(b"hello you\r\n")) == (3, True), seen


def test_what_is_typed_is_sent_where_output_is_piped(service: Service, tmp_path: Any) -> None:
    out = tmp_path / "out"
    script = f"{sys.executable} -m scriptservice.cli run -i 'cat; [ -t 0 ] || echo no tty' > {out}"
    terminal = Terminal.of(["bash", "-c", script], environment(service))
    terminal.type(b"typed\n")
    eventually(lambda: out.exists() and b"typed" in out.read_bytes(), "what was typed")
    terminal.type(CTRL_D)
    code, _ = terminal.end()
    assert (code, out.read_bytes()) == (0, b"typed\nno tty\n")


# attach


def test_attaching_detaching_and_the_end(service: Service) -> None:
    script = "stty -echo; echo ready; while read -r a; do echo got $a; done; exit 6"
    command = service.submit(script, pty={"rows": 20, "cols": 20})["id"]
    service.wait_for_output(command, b"ready")
    terminal = Terminal(service, "attach", command[-8:])
    before = mode(terminal)
    terminal.read_until(lambda seen: b"Ctrl-] to detach" in seen and mode(terminal) != before)
    terminal.type(b"one\r")
    terminal.read_until(lambda seen: b"got one" in seen)
    assert b"ready" not in terminal.seen  # output begins now
    terminal.type(b"two\r" + DETACH)
    terminal.read_until(lambda seen: b"detached" in seen)
    after = mode(terminal)
    code, seen = terminal.end()
    assert (code, after) == (0, before)
    assert b"the command still runs" in seen
    assert f"scriptservice attach {command}".encode() in seen
    assert service.wait_for_output(command, b"got two")
    assert service.get(command)["status"] == "running"
    terminal = Terminal(service, "attach", command)
    terminal.read_until(lambda seen: b"Ctrl-] to detach" in seen)
    service.client.post(f"/v1/commands/{command}/stdin?close=true")
    code, seen = terminal.end()
    assert code == 6, seen
    ended = cli(service, "attach", command)
    assert (ended.returncode, b"it has finished" in ended.stderr) == (1, True)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(n, marks=pytest.mark.long) for n in (signal.SIGHUP, signal.SIGINT)),
    ],
)
def test_a_signal_leaves_the_terminal_as_it_was(service: Service, number: signal.Signals) -> None:
    command = service.submit("exec cat", pty={"rows": 20, "cols": 20}, grace_seconds=0)["id"]
    service.wait_for(command, "running")
    terminal = Terminal(service, "attach", command)
    before = mode(terminal)
    terminal.read_until(lambda _: mode(terminal) != before)
    os.kill(terminal.pid, number)
    terminal.read_until(lambda seen: b"detached" in seen)
    after = mode(terminal)
    code, _ = terminal.end()
    assert (code, after) == (128 + number, before)
    service.client.post(f"/v1/commands/{command}/stop")


def test_the_size_follows_the_window(service: Service) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do read -r -t 1 _; done"
    terminal = Terminal(service, "run", "-i", "--label", "about=window", script)
    terminal.read_until(lambda seen: b"ready" in seen)
    terminal.resize(33, 77)
    terminal.read_until(lambda seen: b"33 77\r\n" in seen)
    command = running(service, "about=window")
    terminal.type(DETACH)
    assert terminal.end()[0] == 0
    # The size is that of the terminal that was attached last.
    terminal = Terminal(service, "attach", command)
    terminal.read_until(lambda seen: b"40 120\r\n" in seen)
    terminal.type(DETACH)
    assert terminal.end()[0] == 0
    service.client.post(f"/v1/commands/{command}/stop", json={"grace_seconds": 0})


def test_pipes_can_be_attached_too(service: Service) -> None:
    command = service.submit("while read -r a; do echo got $a; [ $a = end ] && exit 4; done",
                             interactive=True)["id"]  # fmt: skip
    service.wait_for(command, "running")
    ended = with_input(service, b"one\nend\n", "attach", command)
    assert (ended.returncode, ended.stdout, ended.stderr) == (4, b"got one\ngot end\n", b"")


# send and signal


def test_send_and_signal(service: Service) -> None:
    gate = Gate(service)
    # bash itself says in stderr that the signal has ended its child.
    script = f"trap 'echo hup' HUP; cat; {{ {gate.wait}; }} 2>/dev/null; exit 2"
    command = service.submit(script, interactive=True)["id"]
    service.wait_for(command, "running")
    sent = with_input(service, b"one\n", "send", command)
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
    closed = with_input(service, b"two\n", "send", "--close", command[-8:])
    assert (closed.returncode, closed.stderr) == (0, b"")
    service.wait_for_output(command, b"two\n")
    refused = with_input(service, b"three\n", "send", command)
    assert refused.returncode == 1
    assert b"cannot send input" in refused.stderr
    signalled = cli(service, "signal", command, "hup")
    assert (signalled.returncode, signalled.stdout) == (0, f"{command[-8:]} running\n".encode())
    service.wait_for_output(command, b"hup\n")
    wrong = cli(service, "signal", command, "NOTHING")
    assert (wrong.returncode, b"signal" in wrong.stderr) == (1, True)
    gate.open()
    assert service.wait(command)["exit_code"] == 2
    assert service.bytes_of(command) == b"one\ntwo\nhup\n"
    late = cli(service, "signal", command, "HUP")
    assert late.returncode == 1
