"""Output that is stored compressed: the same bytes on every way, and an honest error if damaged."""

from typing import Any

import httpx2 as httpx
import pytest

from support.problems import assert_problem
from support.service import Service
from support.sse import assert_contiguous, event_stream, events_of

LINES = 60_000
TEXT = b"".join(b"step %d of the build is done\n" % number for number in range(1, LINES + 1))
SCRIPT = f"seq -f 'step %.0f of the build is done' {LINES}"


@pytest.fixture(scope="module")
def command(service: Service) -> dict[str, Any]:
    made = service.run(SCRIPT)
    assert made["output"]["bytes"] == len(TEXT)
    return made


def rows(service: Service, command: dict[str, Any]) -> list[Any]:
    return service.sql(
        "SELECT o.number, position, length(data), compression FROM output o JOIN commands c "
        "ON c.number = o.number WHERE c.id = :id ORDER BY position",
        id=_stored_id(service, command),
    )


def _stored_id(service: Service, command: dict[str, Any]) -> str:
    return str(command["id"]) if service.database else str(command["id"]).replace("-", "")


def test_log_text_takes_a_fraction_of_its_size(service: Service, command: dict[str, Any]) -> None:
    stored = rows(service, command)
    assert sum(row[2] for row in stored) < 0.3 * len(TEXT)
    assert 1 in {row[3] for row in stored}


def test_short_and_random_output_is_stored_as_printed(service: Service) -> None:
    for script in ("echo hello", "head -c 300000 /dev/urandom"):
        made = service.run(script)
        stored = rows(service, made)
        assert {row[3] for row in stored} == {None}
        assert sum(row[2] for row in stored) == made["output"]["bytes"]


def test_every_way_to_read_gives_the_bytes_as_printed(
    service: Service, command: dict[str, Any]
) -> None:
    def read(**query: Any) -> bytes:
        return service.bytes_of(command["id"], **query)

    assert read() == TEXT
    assert read(follow="true") == TEXT
    for offset in (0, 1, 100_000, len(TEXT) // 2, len(TEXT) - 70_000, len(TEXT) - 1):
        assert read(offset=offset, limit=65_536) == TEXT[offset : offset + 65_536]
    assert read(tail="1000l") == b"".join(TEXT.splitlines(keepends=True)[-1000:])
    assert read(tail="5") == TEXT[-5:]
    assert assert_contiguous(events_of(service, command["id"]), 0) == TEXT


def test_a_follower_gets_compressed_output_as_it_is_stored(service: Service) -> None:
    made = service.submit(SCRIPT)
    with service.client.stream(
        "GET", f"/v1/commands/{made['id']}/output", params={"follow": "true"}
    ) as response:
        assert b"".join(response.iter_raw()) == TEXT


def test_damage_is_an_error_that_names_the_command(service: Service) -> None:
    made = service.run(SCRIPT)
    stored = rows(service, made)
    # The first 64 KiB are read before a response begins.
    number, position, size, _ = next(row for row in stored if row[1] >= 65_536 and row[3])
    where = {"number": number, "position": position}
    ((data,),) = service.sql(
        "SELECT data FROM output WHERE number = :number AND position = :position", **where
    )
    damaged = (
        bytes(data[: size // 2]) + bytes([data[size // 2] ^ 255]) + bytes(data[size // 2 + 1 :])
    )
    service.sql(
        "UPDATE output SET data = :data WHERE number = :number AND position = :position",
        data=damaged,
        **where,
    )
    named = f"cannot read the output of command {made['id']}: "
    url = f"/v1/commands/{made['id']}/output"
    for query in ({"offset": position, "limit": 10}, {"tail": f"{LINES}l"}):
        problem = assert_problem(service.client.get(url, params=query), "internal")
        assert problem["detail"].startswith(named), problem
    # A response that has begun is cut, so that no client takes it for complete.
    for query in ({}, {"follow": "true"}):
        got: list[bytes] = []
        with service.client.stream("GET", url, params=query) as response:
            assert response.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                got.extend(response.iter_raw())
        assert TEXT[:position].startswith(b"".join(got))
    with event_stream(service, made["id"]) as events:
        assert "end" not in [event.name for event in events.all()]
    logged = [line for line in service.output().splitlines() if "output_damaged" in line]
    assert len(logged) >= 4  # for the range, both streams and the events
    assert all(made["id"] in line for line in logged)
    # The rest is still there.
    assert service.bytes_of(made["id"], limit=position) == TEXT[:position]
