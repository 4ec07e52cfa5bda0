"""Input through deaths of the server: every byte arrives once and in order."""

import hashlib
import random
import signal
import threading
from typing import Any

import httpx2 as httpx
import pytest

from support.gates import Gate
from support.scripts import keeper_of
from support.service import ON_SQLITE, Service, eventually

DIGEST = """import hashlib, os
print("ready", flush=True)
digest, size = hashlib.sha256(), 0
while piece := os.read(0, 1 + size % 4099):
    digest.update(piece)
    size += len(piece)
print(size, digest.hexdigest())"""
PIECES, KILLS = 60, 3
MORE_PIECES, MORE_KILLS = 600, 20

pytestmark = ON_SQLITE


def send(service: Service, command: str, data: bytes, **query: Any) -> httpx.Response | None:
    """Send input; return the answer, None if there was none."""
    try:
        return service.client.post(f"/v1/commands/{command}/stdin", content=data, params=query)
    except httpx.TransportError:
        return None


@pytest.mark.parametrize(
    ("pieces", "kills"),
    [(PIECES, KILLS), pytest.param(MORE_PIECES, MORE_KILLS, marks=pytest.mark.long)],
)
def test_every_byte_of_input_arrives_once_through_kills(
    service: Service, pieces: int, kills: int
) -> None:
    command = service.submit(DIGEST, interactive=True, interpreter=["/usr/bin/python3"])["id"]
    service.wait_for_output(command, b"ready")
    chance = random.Random(7)
    data = [chance.randbytes(chance.randrange(1, 50_000)) for _ in range(pieces)]
    kill_before = {pieces * number // kills for number in range(kills)}
    offset = 0
    for number, piece in enumerate(data):
        killer = threading.Thread(target=service.kill_server)
        if number in kill_before:
            killer.start()
        end = offset + len(piece)
        while offset != end:
            answer = send(service, command, piece, offset=offset)
            if answer is None or answer.status_code == 429:
                continue
            body = answer.json()
            # After a lost answer, 409 tells that the piece was accepted.
            assert answer.status_code in (202, 409), answer.text
            assert body["offset"] == end, body
            offset = end
        if number in kill_before:
            killer.join()
    assert eventually(lambda: send(service, command, b"", close=True), "an answer").is_success
    whole = b"".join(data)
    service.wait(command)
    wanted = f"ready\n{len(whole)} {hashlib.sha256(whole).hexdigest()}\n"
    assert service.bytes_of(command).decode() == wanted


def test_a_request_whose_answer_is_lost_can_be_repeated(service: Service) -> None:
    """The keeper is frozen, so that the server dies between its question and its answer."""
    command = service.submit("echo ready; cat", interactive=True)["id"]
    service.wait_for_output(command, b"ready")
    answers: list[httpx.Response | None] = []
    sender = threading.Thread(
        target=lambda: answers.append(send(service, command, b"once\n", offset=0))
    )
    keeper = keeper_of(service)
    keeper.send_signal(signal.SIGSTOP)
    sender.start()
    with httpx.Client(base_url=service.url, verify=False) as other:
        for _ in range(3):  # the server has passed the input on by then
            assert other.get("/healthz").status_code == 200
    service.kill_server()
    keeper.send_signal(signal.SIGCONT)
    sender.join()
    assert answers == [None]
    again = eventually(lambda: send(service, command, b"once\n", offset=0), "an answer")
    assert again.json()["offset"] == 5, again.text
    assert send(service, command, b"", offset=5, close=True) is not None
    service.wait(command)
    assert service.bytes_of(command) == b"ready\nonce\n"


def test_a_terminal_ends_with_its_keeper(service: Service) -> None:
    gate = Gate(service)
    size = {"rows": 24, "cols": 80}
    command = service.submit(f"trap '' HUP; echo ready; {gate.wait}", pty=size)["id"]
    service.wait_for_output(command, b"ready")
    service.kill_keeper()
    service.start()
    ended = service.wait(command)
    assert (ended["status"], ended["exit_code"]) == ("lost", None)
    assert "may be incomplete" in ended["reason"]
    assert service.bytes_of(command) == b"ready\r\n"
    gate.open()
