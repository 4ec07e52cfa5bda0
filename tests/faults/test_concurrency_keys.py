"""At most one command of a key runs, and none is forgotten, whoever dies and whenever."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from scriptservice import Client
from scriptservice.protocol.fault_points import VARIABLE, arm, pending
from support.gates import Gate
from support.scripts import unique_seconds
from support.service import (
    MAINLY_ON_SQLITE,
    ON_SQLITE,
    PATIENCE_SECONDS,
    Service,
    eventually,
    new_directory,
    processes_with,
)

MakeService = Callable[..., Service]

FEW = (40, 2)
MANY = (1000, 20)
"""How many commands, and how often the server is killed."""


@dataclass
class Log:
    """The file to which the commands of a key append, each when it begins and when it ends."""

    path: Path

    @property
    def script(self) -> str:
        """A script that appends both lines."""
        name = '"$SCRIPTSERVICE_COMMAND_ID"'
        return f"echo begin {name} >> {self.path}; sleep 0.01; echo end {name} >> {self.path}"

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()]

    def check(self, statuses: dict[str, str]) -> None:
        """Check that no two commands ran at a time, and that each one ran as its status says."""
        begun: list[str] = []
        ended: set[str] = set()
        for what, command in self.lines():
            if what == "begin":
                # The command before it has ended, or was killed before it could say so.
                assert all(each in ended or statuses[each] == "lost" for each in begun)
                begun.append(command)
            else:
                assert begun[-1] == command, "a command ended after the next one had begun"
                ended.add(command)
        assert len(begun) == len(set(begun)), "a command ran twice"
        succeeded = {command for command, status in statuses.items() if status == "succeeded"}
        assert succeeded <= ended
        assert set(begun) <= set(statuses)


def shared_log(service: Service) -> Log:
    """Return a log that the scripts of any user can write to."""
    path = service.data_dir.parent / "log"
    path.touch()
    path.chmod(0o666)
    return Log(path)


# What the two databases do differently is in tests/store/test_concurrency.py.
@MAINLY_ON_SQLITE
@pytest.mark.parametrize(("count", "kills"), [FEW, pytest.param(*MANY, marks=pytest.mark.long)])
def test_one_at_a_time_through_kills(make_service: MakeService, count: int, kills: int) -> None:
    service = make_service().start()
    log = shared_log(service)
    concurrency = {"key": "one at a time"}

    # The client repeats a request without creating a second command.
    client = Client(service.url, token=service.token, retry_seconds=PATIENCE_SECONDS)

    def submit(_: int) -> str:
        return client.submit(log.script, concurrency=concurrency).id

    chance = random.Random(count)
    ids: list[str] = []
    with client, ThreadPoolExecutor(4) as threads:
        ids += threads.map(submit, range(count // 2))
        submitted = [threads.submit(submit, number) for number in range(count - len(ids))]
        steps = [*["server"] * kills, "keeper"]
        chance.shuffle(steps)
        for number, step in enumerate(steps, start=1):
            wanted = number * count // (len(steps) + 1)
            eventually(lambda wanted=wanted: len(log.lines()) >= 2 * wanted, "more to have run")
            if step == "server":
                service.kill_server()
            else:
                service.kill_keeper()
                service.close_client()
                service.start()
        ids += [each.result() for each in submitted]
    statuses = {command: service.wait(command)["status"] for command in ids}
    log.check(statuses)
    found = sorted(statuses.values())
    lost = found.count("lost")
    assert found == ["lost"] * lost + ["succeeded"] * (count - lost)
    assert lost <= 1
    assert service.run("true", concurrency=concurrency)["status"] == "succeeded"


@ON_SQLITE
def test_a_replacement_is_stored_with_its_stops(make_service: MakeService) -> None:
    """The server dies after the commit and before it can send the stop."""
    points = str(new_directory())
    service = make_service(environment={VARIABLE: points}).start()
    gate = Gate(service)
    log = shared_log(service)
    script = f"trap '' TERM; echo begin >> {log.path}; {gate.wait}"
    concurrency = {"key": "k", "when_busy": "replace"}
    holder = service.submit(script, grace_seconds=0.1, concurrency=concurrency)
    eventually(log.lines, "it to run")
    service.wait_for(holder["id"], "running")
    # Nothing else is stored now, so the next commit is that of the new command.
    arm(points, "writer.committed", "kill")
    with Client(service.url, token=service.token, retry_seconds=PATIENCE_SECONDS) as client:
        replacing = client.submit("true", concurrency=concurrency)
    assert not pending(points, "writer.committed")
    ended = service.wait(holder["id"])
    reason = f"it was replaced by command {replacing.id}"
    assert (ended["status"], ended["signal"], ended["reason"]) == ("stopped", "SIGKILL", reason)
    started = service.wait(replacing.id)
    assert started["status"] == "succeeded"
    assert ended["finished_at"] <= started["started_at"]
    gate.open()


@ON_SQLITE
def test_the_reason_of_a_replacement_outlives_the_server(make_service: MakeService) -> None:
    """The replaced command ends while no server reads the journal."""
    points = str(new_directory())
    service = make_service(environment={VARIABLE: points}).start()
    mark = unique_seconds()
    concurrency = {"key": "k", "when_busy": "replace"}
    holder = service.submit(f"exec sleep {mark}", concurrency=concurrency)
    service.wait_for(holder["id"], "running")
    arm(points, "recorder.read", "stop")

    def replace() -> str:
        with Client(service.url, token=service.token, retry_seconds=PATIENCE_SECONDS) as client:
            return client.submit("true", concurrency=concurrency).id

    with ThreadPoolExecutor(1) as threads:
        replacing = threads.submit(replace)
        eventually(lambda: not pending(points, "recorder.read"), "a record of the stop")
        eventually(lambda: not processes_with(mark), "the replaced script to end")
        service.kill_server()
        service.close_client()
        by = replacing.result()
    ended = service.wait(holder["id"])
    reason = f"it was replaced by command {by}"
    assert (ended["status"], ended["signal"], ended["reason"]) == ("stopped", "SIGTERM", reason)
    assert service.wait(by)["status"] == "succeeded"


FEWER_QUEUED = (60, 5)
MORE_QUEUED = (10_000, 50)
"""How many commands are queued, and how many may run at a time."""


@pytest.mark.parametrize(
    ("count", "running"), [FEWER_QUEUED, pytest.param(*MORE_QUEUED, marks=pytest.mark.long)]
)
def test_a_queue_with_priorities_runs_in_order(
    make_service: MakeService, count: int, running: int
) -> None:
    service = make_service("--max-running", str(running)).start()
    gate = Gate(service)
    blockers = [service.submit(gate.block)["id"] for _ in range(running)]
    for command in blockers:
        service.wait_for(command, "running")
    chance = random.Random(count)
    priorities = [chance.randint(-100, 100) for _ in range(count)]

    with Client(service.url, token=service.token) as client, ThreadPoolExecutor(4) as threads:
        submit = client.submit
        list(threads.map(lambda n: submit("exit 0", name="queued", priority=n), priorities))
    queued = service.client.get("/v1/commands?status=queued&limit=1").json()["items"]
    assert queued[0]["waiting_for"] == "capacity"
    gate.open()
    eventually(lambda: finished(service) >= count // 3, "a third to have run")
    service.kill_server()
    service.close_client()
    eventually(lambda: finished(service) == count + running, "all to have run", 600)
    items = [item for item in every_command(service) if item["name"] == "queued"]
    assert {item["status"] for item in items} == {"succeeded"}
    items.reverse()  # in the order of submission
    items.sort(key=lambda item: -item["priority"])
    expected = {item["id"]: rank for rank, item in enumerate(items)}
    items.sort(key=lambda item: item["started_at"])
    # A command starts after all before it were dispatched, and all but a few of these have ended.
    early = [expected[item["id"]] - place for place, item in enumerate(items)]
    assert max(early) < running, max(early)


def finished(service: Service) -> int:
    query = "SELECT count(*) FROM commands WHERE status IN ('succeeded', 'failed')"
    return int(service.sql(query)[0][0])


def every_command(service: Service) -> list[dict[str, str]]:
    items: list[dict[str, str]] = []
    cursor = ""
    while True:
        page = service.client.get(f"/v1/commands?limit=1000{cursor}").json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={page['next_cursor']}"
