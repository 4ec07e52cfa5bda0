"""A service with retention: who follows a pruned command, requests that are repeated, and kills."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import pytest

from bench import programs
from support.gates import Gate
from support.history import add_history
from support.service import PATIENCE_SECONDS, Service, eventually
from support.sse import event_stream

OUTPUT_BYTES = 20_000_000
"""More than the sockets, the window of a slow reader and the server's cache hold."""

MANY = 100_000
CONNECTIONS = 16
SUBMIT_SECONDS = 15
Make = Callable[..., Service]


def metric(service: Service, name: str) -> float:
    lines = service.client.get("/metrics").text.splitlines()
    (line,) = (line for line in lines if line.startswith(f"scriptservice_{name} "))
    return float(line.split()[1])


def numbers(service: Service) -> list[int]:
    rows = service.sql("SELECT number FROM commands WHERE deleted_at IS NULL ORDER BY number")
    return [number for (number,) in rows]


def count(service: Service, table: str) -> int:
    return int(service.sql(f"SELECT count(*) FROM {table}")[0][0])


def fill(service: Service, commands: int) -> list[int]:
    """Add finished commands to the database behind the server's back; return all numbers."""
    with service.database_transaction() as connection:
        add_history(connection, commands)
    return numbers(service)


def has_gone(service: Service, command: dict[str, Any]) -> bool:
    return service.client.get(f"/v1/commands/{command['id']}").status_code == 404


def test_followers_and_requests_of_pruned_commands(make_service: Make) -> None:
    service = make_service("--keep-commands", "1", "--log-format", "json").start()
    gate = Gate(service)
    oldest = service.submit(f"echo up; {gate.block}; exec head -c {OUTPUT_BYTES} /dev/zero")
    request = {"json": {"script": "true"}, "headers": {"Idempotency-Key": "once"}}
    named = service.client.post("/v1/commands", **request).json()
    service.wait(named["id"])
    # The rerun waits, the original does not.
    original = service.submit(f"if [ -e ran ]; then echo again; {gate.wait}; else touch ran; fi")
    eventually(lambda: has_gone(service, named), "the first to be pruned")
    again = service.client.post(f"/v1/commands/{original['id']}/rerun").json()
    service.wait_for_output(again["id"], b"again\n")
    last = service.run("echo last")
    eventually(lambda: has_gone(service, original), "the original to be pruned")
    assert service.get(oldest["id"])["status"] == "running"
    assert service.get(again["id"])["rerun_of"] == original["id"]
    assert service.client.post("/v1/commands", **request).status_code == 410
    url = f"/v1/commands/{oldest['id']}/output?follow=true"
    with (
        event_stream(service, oldest["id"], receive_bytes=4096) as events,
        service.client.stream("GET", url) as response,
    ):
        reader = response.iter_raw()
        assert next(reader).startswith(b"up\n")
        events.until("output")
        # When these two end, they are beyond what is kept.
        gate.open()
        eventually(lambda: has_gone(service, oldest), "the oldest to be pruned")
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in reader:
                pass
        assert "end" not in [event.name for event in events.all()]
    eventually(lambda: has_gone(service, again), "the rerun to be pruned")
    assert service.bytes_of(last["id"]) == b"last\n"
    eventually(lambda: count(service, "commands") == 1, "one row")
    assert (count(service, "output"), count(service, "inputs")) == (1, 1)
    assert metric(service, "commands_pruned_total") == 4
    assert metric(service, "output_pruned_bytes_total") > 0
    assert service.stop() == 0
    lines = [json.loads(line) for line in service.output().splitlines() if line.startswith("{")]
    pruned = [line for line in lines if line["event"] == "commands_pruned"]
    assert sum(line["commands"] for line in pruned) == 4


def test_a_killed_server_leaves_the_rest_to_the_next(make_service: Make) -> None:
    service = make_service("--keep-commands", "100", "--max-running", "1").start()
    gate = Gate(service)
    unfinished = [service.submit(gate.block)["id"] for _ in range(3)]
    service.wait_for(unfinished[0], "running")
    every = fill(service, 1500)
    for left in (1501, 1200, 800):
        eventually(lambda left=left: len(numbers(service)) <= left + 3, f"{left} commands")
        service.kill_server()
    eventually(lambda: count(service, "commands") == 103, "100 finished commands")
    assert numbers(service) == every[:3] + every[-100:]
    assert count(service, "inputs") == 103
    assert [service.get(each)["status"] for each in unfinished] == ["running", "queued", "queued"]
    gate.open()
    eventually(lambda: numbers(service) == every[-100:], "the oldest three to be pruned")


@pytest.mark.long
def test_many_are_pruned_while_clients_submit(make_service: Make) -> None:
    """Submits keep at least half their rate, and nothing that is unfinished is pruned."""
    service = make_service("--max-running", "1").start()
    gate = Gate(service)
    service.submit(gate.block)
    every = fill(service, MANY)
    service.kill_server()
    service.wait_until_serving()
    alone = submit_rate(service)
    assert service.stop() == 0
    service.flags = (*service.flags, "--keep-commands", "1000")
    service.start()
    service.submit(gate.block)

    def left() -> int:
        statement = "SELECT count(*) FROM commands WHERE number <= :last AND deleted_at IS NULL"
        return int(service.sql(statement, last=every[-1])[0][0])

    eventually(lambda: left() < MANY, "the first to be pruned")
    before, began = left(), time.monotonic()
    pruning = submit_rate(service)
    rate = (before - left()) / (time.monotonic() - began)
    print(f"{alone:.0f} submits/s alone, {pruning:.0f} while {rate:.0f} commands/s are pruned")
    assert left() > 1000, "all were pruned before the end of the measurement"
    assert pruning > alone / 2
    eventually(lambda: left() <= 1000, "the end", 10 * PATIENCE_SECONDS)
    statement = "SELECT count(*) FROM commands WHERE status = 'queued'"
    assert service.sql(statement)[0][0] > 0


def submit_rate(service: Service) -> float:
    body = json.dumps({"script": "echo hello"}).encode()
    head = (
        f"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.token}"
        f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    done, took = programs.run(
        "load", service.port, CONNECTIONS, 0, SUBMIT_SECONDS, 201, stdin=head.encode() + body
    )
    return done / took
