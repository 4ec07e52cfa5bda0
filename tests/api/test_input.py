"""Input, signals and terminals of running commands."""

import hashlib
import os
import re
from typing import Any

import httpx2 as httpx
import pytest

from support.gates import Gate
from support.problems import assert_invalid, assert_problem
from support.service import MAINLY_SQLITE, Service, eventually, processes_with

UNKNOWN = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
MEBIBYTE = 1 << 20
SIZE = {"rows": 24, "cols": 80}

pytestmark = pytest.mark.parametrize("database_kind", MAINLY_SQLITE, scope="module")


def send(service: Service, command: dict[str, Any], data: bytes, **query: Any) -> httpx.Response:
    return service.client.post(f"/v1/commands/{command['id']}/stdin", content=data, params=query)


def send_signal(service: Service, command: dict[str, Any], name: str) -> httpx.Response:
    return service.client.post(f"/v1/commands/{command['id']}/signal", json={"signal": name})


def started(service: Service, script: str, **fields: Any) -> dict[str, Any]:
    """Submit a script and wait until it has printed that it is ready."""
    command = service.submit(script, **fields)
    service.wait_for_output(command["id"], b"ready")
    return command


def accepted(response: httpx.Response) -> tuple[int, int]:
    assert response.status_code == 202, response.text
    body = response.json()
    assert body.keys() == {"accepted_bytes", "offset"}
    return body["accepted_bytes"], body["offset"]


# Input


def test_input_arrives_in_order_after_the_stdin_text(service: Service) -> None:
    command = started(service, "echo ready; cat", interactive=True, stdin="first\n")
    assert (command["interactive"], command["pty"], command["stdin_bytes"]) == (True, None, 6)
    assert accepted(send(service, command, b"second\n")) == (7, 7)
    assert accepted(send(service, command, b"", offset=7)) == (0, 7)
    assert accepted(send(service, command, bytes(range(256)), offset=7, close=True)) == (256, 263)
    ended = service.wait(command["id"])
    assert (ended["status"], ended["interactive"]) == ("succeeded", True)
    assert service.bytes_of(command["id"]) == b"ready\nfirst\nsecond\n" + bytes(range(256))


def test_a_script_that_reads_in_tiny_pieces_gets_every_byte(service: Service) -> None:
    script = """import hashlib, os, sys
print("ready", flush=True)
digest, size = hashlib.sha256(), 0
while piece := os.read(0, 37 + size % 61):
    digest.update(piece)
    size += len(piece)
print(size, digest.hexdigest())"""
    command = started(service, script, interactive=True, interpreter=["python3"])
    data = b"".join(number.to_bytes(4, "big") for number in range(200_000))
    offset = 0
    while offset < len(data):
        part = data[offset : offset + 100_003]
        response = send(service, command, part, offset=offset)
        if response.status_code == 429:
            continue
        offset = accepted(response)[1]
    assert accepted(send(service, command, b"", close=True)) == (0, len(data))
    service.wait(command["id"])
    wanted = f"ready\n{len(data)} {hashlib.sha256(data).hexdigest()}\n"
    assert service.bytes_of(command["id"]).decode() == wanted


def test_at_most_one_mebibyte_waits_and_all_or_nothing_is_taken(service: Service) -> None:
    gate = Gate(service)
    # The script reads nothing, and the pipe itself has room for some bytes.
    command = started(service, f"echo ready; {gate.wait}; wc -c", interactive=True)
    other = started(service, "echo ready; cat", interactive=True)
    sent = 0
    while (response := send(service, command, b"x" * 300_000, offset=sent)).status_code == 202:
        sent = accepted(response)[1]
        assert sent < 4 * MEBIBYTE
    assert_problem(response, "too-many-requests")
    assert response.headers["Retry-After"] == "1"
    assert MEBIBYTE < sent + 300_000 <= MEBIBYTE + 300_000 + 65536
    assert send(service, command, b"x" * 300_000).status_code == 429
    assert accepted(send(service, other, b"unhurt\n", close=True)) == (7, 7)
    assert service.wait(other["id"])["status"] == "succeeded"
    gate.open()
    eventually(
        lambda: send(service, command, b"", close=True).status_code == 202, "room for the end"
    )
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"ready\n%d\n" % sent


def test_a_stop_does_not_wait_for_waiting_input(service: Service) -> None:
    command = started(service, "echo ready; sleep 3600", interactive=True)
    assert accepted(send(service, command, b"x" * MEBIBYTE)) == (MEBIBYTE, MEBIBYTE)
    response = service.client.post(f"/v1/commands/{command['id']}/stop", json={})
    assert response.status_code == 202
    assert service.wait(command["id"])["status"] == "stopped"


def test_too_large_input_is_refused(service: Service) -> None:
    command = started(service, "echo ready; cat", interactive=True)
    assert_problem(send(service, command, b"x" * (MEBIBYTE + 1)), "too-large")
    assert accepted(send(service, command, b"", close=True)) == (0, 0)
    service.wait(command["id"])


def test_an_offset_makes_a_retry_safe(service: Service) -> None:
    command = started(service, "echo ready; cat", interactive=True)
    assert accepted(send(service, command, b"once\n", offset=0)) == (5, 5)
    for wrong in (0, 6):
        problem = assert_problem(send(service, command, b"once\n", offset=wrong), "offset-mismatch")
        assert problem["offset"] == 5
    assert accepted(send(service, command, b"twice\n", offset=5, close=True)) == (6, 11)
    service.wait(command["id"])
    assert service.bytes_of(command["id"]) == b"ready\nonce\ntwice\n"


def test_closed_input_takes_no_more(service: Service) -> None:
    gate = Gate(service)
    command = started(service, f"echo ready; cat; {gate.wait}", interactive=True)
    assert accepted(send(service, command, b"end\n", close=True, offset=0)) == (4, 4)
    assert accepted(send(service, command, b"", close=True)) == (0, 4)
    assert_problem(send(service, command, b"more"), "not-running")
    # The client did not get the answer, and asks again.
    again = send(service, command, b"end\n", close=True, offset=0)
    assert assert_problem(again, "offset-mismatch")["offset"] == 4
    gate.open()
    service.wait(command["id"])
    assert service.bytes_of(command["id"]) == b"ready\nend\n"


def test_a_script_that_closes_its_stdin_takes_no_more(service: Service) -> None:
    gate = Gate(service)
    command = started(service, f"exec 0</dev/null; echo ready; {gate.wait}", interactive=True)
    assert_problem(send(service, command, b"late"), "not-running")
    # Bytes that wait are dropped when the script closes its stdin.
    second = Gate(service)
    waiting = started(
        service,
        f"echo ready; {second.wait}; exec 0</dev/null; echo closed; {gate.wait}",
        interactive=True,
    )
    assert accepted(send(service, waiting, b"x" * MEBIBYTE)) == (MEBIBYTE, MEBIBYTE)
    second.open()
    service.wait_for_output(waiting["id"], b"closed")
    assert_problem(send(service, waiting, b"late"), "not-running")
    gate.open()
    for each in (command, waiting):
        assert service.wait(each["id"])["status"] == "succeeded"


def test_background_children_read_the_end_when_the_script_exits(service: Service) -> None:
    script = "exec 3<&0; { cat <&3; echo end; } & exit 0"
    command = service.run(script, interactive=True, stdin="text\n", leftover_seconds=3600)
    assert (command["status"], command["leftovers_killed"]) == ("succeeded", 0)
    assert service.bytes_of(command["id"]) in (b"text\nend\n", b"end\n")


def test_only_interactive_commands_that_run_take_input(service: Service) -> None:
    finished = service.run("true", interactive=True)
    assert_problem(send(service, finished, b"x"), "not-running")
    plain = started(service, "echo ready; cat; sleep 3600")
    assert (plain["interactive"], plain["pty"]) == (False, None)
    assert_problem(send(service, plain, b"x"), "not-interactive")
    service.client.post(f"/v1/commands/{plain['id']}/stop", json={"grace_seconds": 0})
    service.wait(plain["id"])
    assert_problem(send(service, plain, b"x"), "not-interactive")
    assert_problem(send(service, {"id": UNKNOWN}, b"x"), "not-found")
    assert_problem(send(service, {"id": "x"}, b"x"), "not-found")
    assert_invalid(send(service, plain, b"x", offset=-1), "offset")
    assert_invalid(send(service, plain, b"x", colour="red"), "colour")


def test_a_stopping_command_takes_no_input_and_no_signal(service: Service) -> None:
    gate = Gate(service)
    script = f"trap 'echo asked' TERM; echo ready; {gate.wait}"
    command = started(service, script, interactive=True, grace_seconds=3600)
    service.client.post(f"/v1/commands/{command['id']}/stop", json={})
    service.wait_for_output(command["id"], b"asked")
    assert_problem(send(service, command, b"x"), "not-running")
    assert_problem(send_signal(service, command, "SIGHUP"), "not-running")
    gate.open()
    service.wait(command["id"])


def test_the_raw_form_and_a_rerun_have_the_same_fields(service: Service) -> None:
    response = service.client.post(
        "/v1/commands",
        content=b"stty size; cat",
        headers={"Content-Type": "text/plain"},
        params={"pty": "33x101"},
    )
    assert response.status_code == 201, response.text
    first = response.json()
    assert (first["interactive"], first["pty"]) == (True, {"rows": 33, "cols": 101})
    service.wait_for_output(first["id"], b"33 101\r\n")
    second = service.client.post(f"/v1/commands/{first['id']}/rerun").json()
    assert (second["interactive"], second["pty"]) == (True, {"rows": 33, "cols": 101})
    service.wait_for_output(second["id"], b"33 101\r\n")
    listed = service.client.get("/v1/commands", params={"id": second["id"]}).json()["items"][0]
    assert (listed["interactive"], listed["pty"]) == (True, {"rows": 33, "cols": 101})
    for each in (first, second):
        assert accepted(send(service, each, b"", close=True)) == (0, 0)
        assert service.wait(each["id"])["status"] == "succeeded"
    refused = service.client.post(
        "/v1/commands",
        content=b"true",
        headers={"Content-Type": "text/plain"},
        params={"pty": "large"},
    )
    assert_invalid(refused, "pty")
    plain = service.client.post(
        "/v1/commands?interactive=true",
        content=b"cat",
        headers={"Content-Type": "text/plain"},
    ).json()
    assert (plain["interactive"], plain["pty"]) == (True, None)
    eventually(lambda: send(service, plain, b"", close=True).status_code == 202, "its start")
    service.wait(plain["id"])


# Signals


def test_a_signal_reaches_the_process_group(service: Service) -> None:
    script = "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.02; done"
    command = started(service, script)
    response = send_signal(service, command, "usr1")
    assert response.status_code == 202
    assert (response.json()["id"], response.json()["status"]) == (command["id"], "running")
    ended = service.wait(command["id"])
    assert (ended["status"], ended["exit_code"], ended["signal"]) == ("failed", 7, None)
    assert service.bytes_of(command["id"], stream="stdout") == b"ready\ngot\n"


def test_a_signal_that_ends_the_script_is_in_the_reason(service: Service) -> None:
    command = started(service, "echo ready; sleep 3600")
    assert send_signal(service, command, "SIGKILL").status_code == 202
    ended = service.wait(command["id"])
    assert (ended["status"], ended["exit_code"], ended["signal"]) == ("failed", None, "SIGKILL")
    assert "SIGKILL" in ended["reason"]
    assert_problem(send_signal(service, command, "SIGHUP"), "not-running")


def test_a_script_can_be_paused_and_continued(service: Service) -> None:
    command = started(service, "echo ready; while :; do sleep 0.02; done")
    assert send_signal(service, command, "SIGSTOP").status_code == 202
    processes = processes_with(command["id"])
    eventually(lambda: all(each.status() == "stopped" for each in processes), "all to be stopped")
    assert send_signal(service, command, "SIGCONT").status_code == 202
    eventually(lambda: any(each.status() != "stopped" for each in processes), "it to go on")
    assert send_signal(service, command, "TERM").status_code == 202
    assert service.wait(command["id"])["signal"] == "SIGTERM"


def test_what_is_no_signal_is_refused(service: Service) -> None:
    assert_invalid(send_signal(service, {"id": UNKNOWN}, "SIGNONE"), "signal")
    assert_problem(send_signal(service, {"id": UNKNOWN}, "SIGHUP"), "not-found")


# Terminals


def test_a_terminal_is_the_scripts_three_streams(service: Service) -> None:
    script = (
        "for n in 0 1 2; do test -t $n && echo tty$n; done; tty </dev/tty >/dev/null && "
        "echo controlling; echo x >/dev/stdout; echo err >&2; stty size; echo ready; read -r line; "
        'echo "got $line"'
    )
    command = started(service, script, pty=SIZE)
    assert accepted(send(service, command, b"hello\n")) == (6, 6)
    ended = service.wait(command["id"])
    assert (ended["status"], ended["interactive"]) == ("succeeded", True)
    output = service.bytes_of(command["id"]).decode()
    assert output == (
        "tty0\r\ntty1\r\ntty2\r\ncontrolling\r\nx\r\nerr\r\n24 80\r\nready\r\nhello\r\n"
        "got hello\r\n"
    )
    assert ended["output"]["stdout_bytes"] == len(output)
    assert ended["output"]["stderr_bytes"] == 0


def test_closing_the_input_of_a_terminal_sends_ctrl_d(service: Service) -> None:
    command = started(service, "echo ready; cat; echo end", pty=SIZE)
    assert accepted(send(service, command, b"line\n", close=True)) == (5, 5)
    assert_problem(send(service, command, b"more"), "not-running")
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"ready\r\nline\r\nline\r\nend\r\n"


def test_ctrl_c_on_a_terminal_interrupts_the_foreground(service: Service) -> None:
    command = started(
        service, "trap 'echo caught' INT; echo ready; sleep 3600; echo after", pty=SIZE
    )
    assert accepted(send(service, command, b"\x03")) == (1, 1)
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"ready\r\n^Ccaught\r\nafter\r\n"


def test_much_output_of_a_terminal_is_complete(service: Service) -> None:
    command = service.run("seq 1 100000; printf last", pty=SIZE)
    wanted = "".join(f"{number}\r\n" for number in range(1, 100_001)).encode() + b"last"
    assert service.bytes_of(command["id"]) == wanted
    limited = service.run("seq 1 100000", pty=SIZE, output_limit_bytes=1000)
    assert service.bytes_of(limited["id"]) == wanted[:1000]
    assert limited["output"]["discarded_bytes"] == len(wanted) - 4 - 1000
    stopped = service.run("yes", pty=SIZE, output_limit_bytes=1000, on_output_limit="stop")
    assert (stopped["status"], stopped["output"]["bytes"]) == ("failed", 1000)


@pytest.mark.parametrize("size", [{"rows": 0, "cols": 0}, {"rows": 24, "cols": 65536}, {"rows": 1}])
def test_a_terminal_has_at_least_one_row_and_column(service: Service, size: dict[str, int]) -> None:
    response = service.client.post("/v1/commands", json={"script": "true", "pty": size})
    assert response.status_code == 422
    fields = {error["field"] for error in response.json()["errors"]}
    assert fields <= {"pty.rows", "pty.cols"}, fields


def test_a_child_that_keeps_the_terminal_open_does_not_keep_the_command(
    service: Service,
) -> None:
    script = "trap '' HUP; sleep 3600 & echo ready"
    command = service.run(script, pty=SIZE, leftover_seconds=0)
    assert (command["status"], command["leftovers_killed"]) == ("succeeded", 1)
    assert service.bytes_of(command["id"]) == b"ready\r\n"


def test_a_script_may_close_its_terminal_and_open_it_again(service: Service) -> None:
    gate = Gate(service)
    script = f"tty=$(tty); echo ready; exec <&- >&- 2>&-; {gate.wait}; echo again >$tty; exit 3"
    command = started(service, script, pty=SIZE)
    closed = f"/proc/{processes_with(command['id'])[0].pid}/fd/1"
    eventually(lambda: not re.search("pts", _target(closed)), "the terminal to be closed")
    gate.open()
    ended = service.wait(command["id"])
    assert (ended["status"], ended["exit_code"], ended["signal"]) == ("failed", 3, None)
    assert service.bytes_of(command["id"]) == b"ready\r\nagain\r\n"


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
