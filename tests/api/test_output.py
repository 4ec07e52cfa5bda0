"""Output as raw bytes: stream, offset, limit and tail, compared with slices of the plain bytes."""

import itertools
from typing import Any

import pytest

from support.gates import Gate
from support.problems import assert_invalid, assert_problem
from support.service import Service

OUT = b"".join(b"out %d\n" % number for number in range(1, 41)) + b"no newline"
ERR = b"".join(b"err %d\n" % number for number in range(1, 21))
UNKNOWN = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
STEPS = [
    "for i in {1..20}; do echo out $i; done",
    "for i in {1..20}; do echo err $i >&2; done",
    "for i in {21..40}; do echo out $i; done; printf 'no newline'",
]
"""Each step prints to one stream, after the output of the step before is stored."""
MERGED = OUT[: OUT.index(b"out 21\n")] + ERR + OUT[OUT.index(b"out 21\n") :]
STREAMS = {"stdout": OUT, "stderr": ERR, "merged": MERGED}


@pytest.fixture(scope="module")
def command(service: Service) -> dict[str, Any]:
    gates = [Gate(service) for _ in STEPS]
    script = "\n".join(f"{gate.wait}; {step}" for gate, step in zip(gates, STEPS, strict=True))
    made = service.submit(script)
    for gate, last in zip(gates, (b"out 20\n", b"err 20\n", b"no newline"), strict=True):
        gate.open()
        service.wait_for_output(made["id"], last)
    return service.wait(made["id"])


def get(service: Service, command: dict[str, Any], **query: Any) -> Any:
    return service.client.get(f"/v1/commands/{command['id']}/output", params=query)


def test_the_default_is_the_whole_merged_output(service: Service, command: dict[str, Any]) -> None:
    response = get(service, command)
    assert response.status_code == 200
    assert response.content == MERGED
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-length"] == str(len(MERGED))
    assert response.headers["output-offset"] == "0"
    assert response.headers["output-size"] == str(len(MERGED))
    assert response.headers["output-complete"] == "true"


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_is_all_its_bytes(service: Service, command: dict[str, Any], stream: str) -> None:
    response = get(service, command, stream=stream)
    assert response.content == STREAMS[stream]
    assert response.headers["output-size"] == str(len(STREAMS[stream]))


@pytest.mark.parametrize("stream", STREAMS)
def test_offset_and_limit_are_a_slice(
    service: Service, command: dict[str, Any], stream: str
) -> None:
    data = STREAMS[stream]
    size = len(data)
    offsets = [0, 1, 7, size // 2, size - 1, size, size + 1, 10**15]
    for offset, limit in itertools.product(offsets, [0, 1, 50, size, 10**15, None]):
        query = {"offset": offset} | ({} if limit is None else {"limit": limit})
        response = get(service, command, stream=stream, **query)
        assert response.status_code == 200
        end = None if limit is None else offset + limit
        assert response.content == data[offset:end], query
        assert response.headers["output-offset"] == str(offset)
        assert response.headers["output-size"] == str(size)
        assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("count", [0, 1, 12, 10_000])
def test_the_last_bytes(service: Service, command: dict[str, Any], stream: str, count: int) -> None:
    data = STREAMS[stream]
    response = get(service, command, stream=stream, tail=count)
    assert response.content == (data[-count:] if count else b"")
    assert response.headers["output-offset"] == str(max(0, len(data) - count))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("count", [0, 1, 2, 19, 20, 21, 41, 60, 61, 62, 10**17])
def test_the_last_lines(service: Service, command: dict[str, Any], stream: str, count: int) -> None:
    data = STREAMS[stream]
    wanted = b"".join(data.splitlines(keepends=True)[-count:]) if count else b""
    response = get(service, command, stream=stream, tail=f"{count}l")
    assert response.content == wanted
    assert response.headers["output-offset"] == str(len(data) - len(wanted))


def test_lines_longer_than_one_read(service: Service) -> None:
    script = "for i in 1 2 3; do head -c 300000 /dev/zero | tr '\\0' $i; echo; done"
    command = service.run(script)
    lines = [b"%d" % number * 300_000 + b"\n" for number in (1, 2, 3)]
    for count in (1, 2, 3, 4):
        assert get(service, command, tail=f"{count}l").content == b"".join(lines[-count:])


def test_output_of_blank_lines(service: Service) -> None:
    command = service.run("printf '\\n\\n\\n'")
    for count in (0, 1, 2, 3, 4):
        assert get(service, command, tail=f"{count}l").content == b"\n" * min(count, 3)


def test_every_byte_comes_back(service: Service) -> None:
    script = "#!/usr/bin/python3\nimport sys\nsys.stdout.buffer.write(bytes(range(256)) * 4000)\n"
    command = service.run(script)
    assert get(service, command).content == bytes(range(256)) * 4000
    assert get(service, command, offset=700_001, limit=3).content == b"\x61\x62\x63"


def test_no_output_is_empty(service: Service) -> None:
    command = service.run("true")
    for query in ({}, {"tail": 5}, {"tail": "5l"}, {"offset": 1}, {"follow": "true"}):
        response = get(service, command, **query)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["output-complete"] == "true"


def test_output_so_far_of_a_running_command(service: Service) -> None:
    command = service.submit("printf 'one\\ntwo\\nthr'; sleep 3600")
    service.wait_for_output(command["id"], b"thr")
    response = get(service, command)
    assert response.content == b"one\ntwo\nthr"
    assert response.headers["output-complete"] == "false"
    assert response.headers["output-size"] == "11"
    assert get(service, command, tail="2l").content == b"two\nthr"
    assert get(service, command, offset=4, limit=3).content == b"two"
    assert service.get(command["id"])["output"]["bytes"] == 11
    service.client.post(f"/v1/commands/{command['id']}/stop", json={"grace_seconds": 0})
    service.wait(command["id"])
    assert get(service, command).headers["output-complete"] == "true"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("tail=1&offset=0", "tail"),
        ("tail=1&limit=1", "tail"),
        ("tail=1l&offset=0&limit=0", "tail"),
        ("tail=-1", "tail"),
        ("tail=l", "tail"),
        ("tail=1L", "tail"),
        ("tail=1k", "tail"),
        ("tail=", "tail"),
        ("tail=1%0A", "tail"),
        ("tail=%D9%A1", "tail"),
        ("tail=" + "9" * 5000, "tail"),
        ("tail=1&tail=1", "tail"),
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("offset=" + "9" * 5000, "offset"),
        ("offset=1&offset=2", "offset"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("stream=both", "stream"),
        ("stream=", "stream"),
        ("stream=stdout&stream=stderr", "stream"),
        ("follow=maybe", "follow"),
        ("follow=", "follow"),
        ("follow=true&follow=true", "follow"),
        ("after=1", "after"),
        ("wait=1", "wait"),
    ],
    ids=lambda value: value[:30],
)
def test_invalid_parameters_are_refused_by_name(
    service: Service, command: dict[str, Any], query: str, field: str
) -> None:
    response = service.client.get(f"/v1/commands/{command['id']}/output?{query}")
    assert_invalid(response, field)


def test_output_of_an_unknown_command_is_not_found(service: Service) -> None:
    for name in (UNKNOWN, "x", UNKNOWN[:-1], f"{{{UNKNOWN}}}"):
        for query in ({}, {"follow": "true"}, {"tail": "1l"}):
            response = service.client.get(f"/v1/commands/{name}/output", params=query)
            assert_problem(response, "not-found")
