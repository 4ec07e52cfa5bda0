"""The budget for large bodies admits them in order; JSON of too many values is not parsed."""

import asyncio

import pytest

from scriptservice.errors import ValidationError
from scriptservice.server.http.body_budget import MAX_WAITING, BodyBudget
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.routes.decoding import JSON_FIELDS, JSON_VALUES, decode_json
from scriptservice.server.routes.request_models import SubmitBody


async def in_order() -> list[str]:
    budget = BodyBudget(10, wait_seconds=60)
    events: list[str] = []

    async def take(name: str, size: int) -> None:
        share = await budget.take(size)
        events.append(name)
        await asyncio.sleep(0)
        share.release()
        share.release()  # the second call does nothing

    first = await budget.take(6)
    waiting = [asyncio.create_task(take(name, size)) for name, size in [("large", 9), ("small", 1)]]
    for _ in range(5):
        await asyncio.sleep(0)
    assert events == [], "the small body overtook the large one"
    first.shrink(1)
    await asyncio.gather(*waiting)
    first.release()
    (await budget.take(10)).release()  # all of it is back
    return events


def test_bodies_are_admitted_in_order() -> None:
    assert asyncio.run(in_order()) == ["large", "small"]


async def wait_too_long() -> None:
    budget = BodyBudget(10, wait_seconds=0)
    share = await budget.take(10)
    with pytest.raises(ProblemError) as refused:
        await budget.take(1)
    assert refused.value.kind == "store-unavailable"
    assert int(refused.value.headers["Retry-After"]) > 0
    share.release()
    (await budget.take(10)).release()


def test_a_body_without_room_in_time_gets_retry_after() -> None:
    asyncio.run(wait_too_long())


async def crowd() -> None:
    budget = BodyBudget(10, wait_seconds=60)
    share = await budget.take(10)
    waiting = [asyncio.create_task(budget.take(1)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(ProblemError):
        await budget.take(1)
    for each in waiting[:-1]:
        each.cancel()
    await asyncio.gather(*waiting[:-1], return_exceptions=True)
    share.release()
    (await waiting[-1]).release()
    (await budget.take(10)).release()  # the cancelled ones hold nothing


def test_the_queue_is_bounded_and_cancelled_bodies_leave_it() -> None:
    asyncio.run(crowd())


@pytest.mark.parametrize(
    "raw",
    [
        b'{"script": "x", "args": [' + b"0," * JSON_VALUES + b"0]}",
        b'{"script": "x", "args": [' + b'"",' * (JSON_VALUES + JSON_FIELDS) + b'""]}',
        b"{" + b",".join(b'"x%d":0' % number for number in range(JSON_FIELDS + 1)) + b"}",
    ],
    ids=["numbers", "words", "fields"],
)
def test_json_of_too_many_values_is_refused(raw: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        decode_json(raw, SubmitBody)
    assert refused.value.kind == "too-large"


def test_commas_in_a_script_are_not_counted() -> None:
    script = ',\\"\\\\' * 200_000
    raw = b'{"args": [' + b'"a",' * 100_000 + b'"b"], "script": "' + script.encode() + b'"}'
    body = decode_json(raw, SubmitBody)
    assert (len(body.args), len(body.script)) == (100_001, 3 * 200_000)


@pytest.mark.parametrize("word", ["0", '"\\u0000"'])
def test_one_of_many_errors_is_reported(word: str) -> None:
    raw = f'{{"script": "x", "args": [{",".join([word] * 100_000)}]}}'.encode()
    with pytest.raises(ValidationError) as refused:
        decode_json(raw, SubmitBody)
    assert [error.field for error in refused.value.errors] == ["args.0"]
