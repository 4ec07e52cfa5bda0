"""The clients' verbs against a real service, blocking and not."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from scriptservice import AsyncClient, Client
from scriptservice.client import problems
from scriptservice.client.types import Command
from scriptservice.model import Status
from support.gates import Gate
from support.service import PATIENCE_SECONDS, Service, eventually


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, service.token, retry_seconds=PATIENCE_SECONDS) as client:
        yield client


def asynchronous(service: Service) -> AsyncClient:
    return AsyncClient(service.url, service.token, retry_seconds=PATIENCE_SECONDS)


def test_run(client: Client) -> None:
    result = client.run("echo out; echo err >&2; exit 3", name="n", labels={"a": "b"})
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    assert result.command.status is Status.FAILED
    assert (result.command.name, result.command.labels) == ("n", {"a": "b"})
    assert result.command.finished


def test_run_gives_binary_output_as_it_is(client: Client) -> None:
    result = client.run(r"printf '\377\0\342\202'; printf '\254' >&2; printf '\254'")
    assert (result.stdout, result.stderr) == (b"\xff\0\xe2\x82\xac", b"\xac")


def test_submit_and_get(client: Client) -> None:
    command = client.submit("echo $1 $A; sleep 0.2", args=["x"], env={"A": "1"})
    assert command.status in (Status.QUEUED, Status.RUNNING)
    assert command.script == "echo $1 $A; sleep 0.2"
    assert abs((datetime.now(UTC) - command.created_at).total_seconds()) < 60
    ended = client.get(command.id, wait_seconds=60)
    assert (ended.status, ended.exit_code) == (Status.SUCCEEDED, 0)
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert ended.started_at < ended.finished_at
    assert client.output(command.id) == b"x 1\n"
    assert ended.raw == client.get(command.id).raw


def test_submit_and_wait(client: Client) -> None:
    assert client.submit("exit 4", wait_seconds=60).exit_code == 4


def test_wait(client: Client, service: Service) -> None:
    gate = Gate(service)
    command = client.submit(gate.wait)
    assert not client.wait(command.id, timeout_seconds=0).finished
    assert not client.wait(command.id, timeout_seconds=0.05).finished
    gate.open()
    assert client.wait(command.id).status is Status.SUCCEEDED
    assert client.wait(command.id, timeout_seconds=0).finished


def test_an_idempotency_key_of_ones_own(client: Client) -> None:
    key = str(uuid4())
    first = client.submit("true", idempotency_key=key)
    assert client.submit("true", idempotency_key=key).id == first.id
    with pytest.raises(problems.IdempotencyMismatchError):
        client.submit("false", idempotency_key=key)
    again = client.rerun(first.id, idempotency_key=f"{key} again", wait_seconds=60)
    assert client.rerun(first.id, idempotency_key=f"{key} again").id == again.id
    assert again.rerun_of == first.id
    client.delete(again.id)
    with pytest.raises(problems.GoneError):
        client.rerun(first.id, idempotency_key=f"{key} again")


def test_list_goes_over_pages(client: Client) -> None:
    label = {"of": str(uuid4())}
    made = [client.submit("true", labels=label).id for _ in range(7)]
    listed = list(client.list(labels=label, page_size=2))
    assert [command.id for command in listed] == made[::-1]
    assert listed[0].script is None
    assert listed[0].script_preview == "true"
    for command in made:
        client.wait(command)
    assert len(list(client.list(labels=label, status=["succeeded", "failed"]))) == 7
    assert list(client.list(labels=label, status=["queued"])) == []
    assert [each.id for each in client.list(id_part=made[3][-8:])] == [made[3]]
    assert listed[0].args is None
    assert listed[0].env is None
    assert list(client.list(labels=label, text="nothing has this")) == []
    assert list(client.list(labels=label, created_after="2999-01-01T00:00:00Z")) == []
    with pytest.raises(problems.ValidationProblemError) as refused:
        list(client.list(status=["no-status"]))
    assert refused.value.errors[0]["field"].startswith("status")


def test_stop_and_delete(client: Client) -> None:
    command = client.submit("exec sleep 3600")
    with pytest.raises(problems.NotFinishedError):
        client.delete(command.id)
    assert client.stop(command.id, signal="INT", grace_seconds=5).id == command.id
    assert client.wait(command.id, timeout_seconds=PATIENCE_SECONDS).status is Status.STOPPED
    with pytest.raises(problems.AlreadyFinishedError) as refused:
        client.stop(command.id)
    assert refused.value.members["command"]["status"] == "stopped"
    assert (refused.value.status, refused.value.type) == (409, "/problems/already-finished")
    client.delete(command.id)
    for verb in (client.get, client.delete, client.output, client.stop, client.rerun):
        with pytest.raises(problems.NotFoundError):
            verb(command.id)
    with pytest.raises(problems.NotFoundError):
        list(client.follow(command.id))
    with pytest.raises(problems.NotFoundError):
        list(client.stream_output(command.id))


def test_output_ranges(client: Client) -> None:
    command = client.submit("printf 'a\\nbc\\nd'; printf err >&2", wait_seconds=60)
    ask = client.output
    assert ask(command.id, stream="stdout") == b"a\nbc\nd"
    assert ask(command.id, stream="stderr") == b"err"
    assert ask(command.id, stream="stdout", offset=2, limit=2) == b"bc"
    assert ask(command.id, stream="stdout", tail="2l") == b"bc\nd"
    assert ask(command.id, stream="stdout", tail="1") == b"d"
    assert ask(command.id, offset=99) == b""
    with pytest.raises(problems.ValidationProblemError):
        ask(command.id, tail="1", offset=1)
    streamed = client.stream_output(command.id, stream="stdout", tail="2l", follow=True)
    assert b"".join(streamed) == b"bc\nd"
    assert b"".join(client.stream_output(command.id, stream="stdout", offset=4)) == b"\nd"


def test_follow(client: Client, service: Service) -> None:
    first, second = Gate(service), Gate(service)
    script = f"echo one; {first.wait}; echo two >&2; {second.wait}; echo three"
    command = client.submit(script)
    following = client.follow(command.id)
    assert following.command is None
    chunks = []
    for gate, chunk in zip((first, second, first), following, strict=True):
        chunks.append(chunk)
        gate.open()
    assert [(chunk.stream, chunk.data) for chunk in chunks] == [
        ("stdout", b"one\n"),
        ("stderr", b"two\n"),
        ("stdout", b"three\n"),
    ]
    assert [chunk.position for chunk in chunks] == [0, 4, 8]
    assert [chunk.stream_offset for chunk in chunks] == [0, 0, 4]
    assert chunks[0].time < chunks[1].time < chunks[2].time
    assert following.position == chunks[-1].end == 14
    assert following.command is not None
    assert following.command.status is Status.SUCCEEDED
    assert b"".join(chunk.data for chunk in client.follow(command.id, after=5)) == b"wo\nthree\n"


def test_follow_can_be_left(client: Client) -> None:
    command = client.submit("while echo x; do sleep 0.01; done")
    for chunk in client.follow(command.id):
        assert chunk.data.startswith(b"x\n")
        break
    assert not client.get(command.id).finished
    client.stop(command.id, grace_seconds=0)


def test_hosts(client: Client, service: Service) -> None:
    # Scripts of the tests before this may just be ending.
    eventually(lambda: client.hosts()[0].raw["running"] == 0, "nothing to run")
    (host,) = client.hosts()
    seen = service.client.get("/v1/hosts").json()["items"][0]
    assert {**host.raw, "last_seen_at": None} == {**seen, "last_seen_at": None}
    assert (host.status, host.capacity) == ("up", None)


def test_bad_fields(client: Client) -> None:
    with pytest.raises(problems.ValidationProblemError) as refused:
        client.submit("true", colour="red", priority=1000)
    assert {error["field"] for error in refused.value.errors} == {"colour", "priority"}
    with pytest.raises(problems.ValidationProblemError):
        client.get("0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55", wait_seconds=61)
    for odd in ("no-id", "../hosts", "a/b", "?x", "%", "é"):
        with pytest.raises(problems.NotFoundError):
            client.get(odd)


# Not blocking


def test_the_same_verbs_awaited(service: Service) -> None:
    async def use() -> None:
        label = {"of": str(uuid4())}
        async with asynchronous(service) as client:
            result = await client.run("echo out; echo err >&2; exit 3", labels=label)
            assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
            gate = Gate(service)
            command = await client.submit(f"{gate.wait}; echo x", labels=label)
            assert not (await client.get(command.id)).finished
            gate.open()
            chunks = [chunk.data async for chunk in client.follow(command.id)]
            assert b"".join(chunks) == b"x\n"
            assert (await client.wait(command.id)).exit_code == 0
            assert await client.output(command.id, offset=1) == b"\n"
            again = await client.rerun(command.id, wait_seconds=60)
            assert again.rerun_of == command.id
            listed = [each.id async for each in client.list(labels=label, page_size=1)]
            assert listed == [again.id, command.id, result.command.id]
            endless = await client.submit("exec sleep 3600")
            await client.stop(endless.id, grace_seconds=0)
            assert (await client.wait(endless.id)).status is Status.STOPPED
            await client.delete(endless.id)
            with pytest.raises(problems.NotFoundError):
                await client.get(endless.id)
            with pytest.raises(problems.NotFoundError):
                async for _ in client.follow(endless.id):
                    pass
            assert [host.name for host in await client.hosts()]
            key = str(uuid4())
            one = await client.submit("true", idempotency_key=key)
            assert (await client.submit("true", idempotency_key=key)).id == one.id

    asyncio.run(use())


def test_many_are_followed_at_once(service: Service) -> None:
    """None ends before all are followed."""
    gate = Gate(service)

    def all_are_followed() -> bool:
        line = 'scriptservice_followers{kind="events"} 20.0'
        return line in service.client.get("/metrics").text

    async def open_then() -> None:
        await asyncio.to_thread(eventually, all_are_followed, "all to be followed")
        gate.open()

    async def use() -> list[bytes]:
        async with asynchronous(service) as client:
            *results, _ = await asyncio.gather(
                *(client.run(f"echo {number}; {gate.wait}") for number in range(20)), open_then()
            )
            return [result.stdout for result in results]

    assert asyncio.run(use()) == [b"%d\n" % number for number in range(20)]


def test_a_command_of_a_newer_service_is_understood(service: Service) -> None:
    answer: dict[str, Any] = service.run("true") | {"limits": {"memory": 1}}
    command = Command.from_json(answer)
    assert command.raw["limits"] == {"memory": 1}
    assert command.finished
