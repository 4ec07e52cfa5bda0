"""The command line on a terminal: what a person sees, and what a script must not do to it."""

import re
import signal

import pytest

from support.cli import Terminal, cli
from support.gates import Gate
from support.service import Service, eventually


def test_the_elapsed_line_is_drawn_and_taken_away(service: Service) -> None:
    gate = Gate(service)
    terminal = Terminal(service, "run", f"{gate.wait}; echo done")
    # The first times may be left out where the machine is slow.
    terminal.read_until(lambda seen: re.search(rb"running \w{8} [1-9]s", seen))
    gate.open()
    code, seen = terminal.end()
    assert code == 0
    # Erased before the output, which stands alone on its line.
    assert b"\x1b[1A\x1b[2Kdone\r\n" in seen
    assert shown(seen) == b"done"


DRAWN = rb"(?:\x1b\[\?25[lh]|\r\x1b\[2K)*\x1b\[2mrunning \w{8} [0-9smh]+\x1b\[0m"
ERASED = rb"\r\n\x1b\[\?25h\r\x1b\[1A\x1b\[2K"


def shown(seen: bytes) -> bytes:
    """Return what stays on a terminal; while a script lasts, a line comes and goes."""
    rest = re.sub(rb"(?:%s)+%s" % (DRAWN, ERASED), b"", seen)
    assert b"running" not in rest
    return rest.strip()


def test_no_elapsed_line_in_a_pipe(service: Service) -> None:
    ended = cli(service, "run", "sleep 1.5; echo done")
    assert (ended.stdout, ended.stderr) == (b"done\n", b"")


HOSTILE = r"printf 'a\033]0;title\007b\033[31mred\033[0m\033[2Jc\001\177\302\233d\n'"


def test_escape_sequences_are_not_obeyed(service: Service) -> None:
    code, seen = Terminal(service, "run", HOSTILE).end()
    assert code == 0
    assert shown(seen) == b"abredc^A^?\\x9bd"


def test_raw_lets_them_through(service: Service) -> None:
    code, seen = Terminal(service, "run", "--raw", HOSTILE).end()
    assert code == 0
    assert b"\x1b]0;title\x07b\x1b[31mred\x1b[0m\x1b[2Jc" in seen


@pytest.mark.parametrize("verb", ["run", "logs"])
def test_bytes_that_are_not_utf_8_are_shown_as_such(service: Service, verb: str) -> None:
    script = r"printf 'caf\303\251 \377 \303'"
    words = ["run", script]
    if verb == "logs":
        words = ["logs", service.run(script)["id"]]
    code, seen = Terminal(service, *words).end()
    assert code == 0
    assert "café � �".encode() in seen


def test_a_table_for_people_and_fields_for_programs(service: Service) -> None:
    command = service.run("true", name="tabular", labels={"team": "db"})
    code, seen = Terminal(service, "list", "--label", "team=db").end()
    assert code == 0
    header, row = seen.replace(b"\r", b"").splitlines()[:2]
    for title in (b"ID", b"STATUS", b"NAME", b"LABELS", b"HOST", b"CREATED", b"TOOK", b"EXIT"):
        assert title in header
    assert command["id"][-8:].encode() in row
    assert b"\x1b[" in row  # the status has its colour
    plain = cli(service, "list", "--label", "team=db").stdout
    fields = plain.decode().splitlines()[0].split("\t")
    assert fields[:4] == [command["id"][-8:], "succeeded", "tabular", "team=db"]


def test_a_table_says_what_was_discarded(service: Service) -> None:
    cut = service.run("printf '%03000000d' 7", labels={"cut": "1"}, output_limit_bytes=1 << 20)
    service.run("true", labels={"cut": "1"})
    code, seen = Terminal(service, "list", "--label", "cut=1").end()
    assert code == 0
    lines = [line for line in seen.splitlines() if b"discarded" in line]
    assert len(lines) == 1
    assert cut["id"][-8:].encode() in lines[0]
    assert b"1.9 MiB" in lines[0]


def test_one_interrupt_stops_it(service: Service) -> None:
    terminal = Terminal(
        service, "run", "trap 'echo stopped; exit 3' TERM; echo up; sleep 3600 & wait"
    )
    terminal.read_until(lambda seen: b"up" in seen)
    terminal.type(b"\x03")
    code, seen = terminal.end()
    assert code == 130
    assert b"stopped" in seen


def test_a_second_interrupt_leaves_it(service: Service) -> None:
    terminal = Terminal(service, "run", "--name", "stubborn", "trap '' TERM; echo up; sleep 3600")
    terminal.read_until(lambda seen: b"up" in seen)
    terminal.type(b"\x03")
    terminal.read_until(lambda seen: b"press Ctrl-C again" in seen)
    terminal.type(b"\x03")
    code, seen = terminal.end()
    assert code == 128 + signal.SIGINT
    assert b"to follow it again: scriptservice logs -f" in seen
    found = service.client.get("/v1/commands", params={"q": "stubborn"}).json()["items"][0]
    eventually(lambda: service.get(found["id"])["status"] == "stopping", "the stop to be taken")
    service.client.post(f"/v1/commands/{found['id']}/stop", json={"grace_seconds": 0})
    service.wait(found["id"])
