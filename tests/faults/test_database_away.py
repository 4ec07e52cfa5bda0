"""A PostgreSQL that is away, slow or takes no writes: scripts go on, nothing is lost or doubled."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import httpx2 as httpx
import psycopg
import pytest
from sqlalchemy import make_url

from support.postgres import Databases
from support.proxy import Proxy, proxy
from support.scripts import ask_to_stop
from support.service import Service, eventually, new_directory

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"], scope="module")

AWAY_SECONDS = 30
MakeService = Callable[..., Service]


@pytest.fixture
def door(postgres: Databases) -> Iterator[Proxy]:
    """The way to the server, which a test can shut."""
    with proxy(make_url(postgres.url("postgres")).port or 0) as made:
        yield made


@pytest.fixture
def url(postgres: Databases) -> Iterator[str]:
    """A database, as it is reached without a door."""
    made = postgres.migrated()
    yield made
    postgres.drop(made)


def through(door: Proxy, url: str) -> str:
    return make_url(url).set(port=door.port).render_as_string(hide_password=False)


@pytest.fixture
def service(door: Proxy, url: str, make_service: MakeService) -> Service:
    return make_service(database=through(door, url)).start()


def ready(service: Service) -> int:
    return httpx.get(f"{service.url}/readyz", timeout=20).status_code


def wait_until_ready(service: Service) -> None:
    def up() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return ready(service) == 200
        return False

    eventually(up, "it to be ready", 60)


def assert_refused(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert response.json()["type"] == "/problems/store-unavailable"
    assert int(response.headers["retry-after"]) >= 1


class Follower(threading.Thread):
    """Follows a command over one connection."""

    def __init__(self, service: Service, path: str) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._path = path
        self.data = b""
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with httpx.stream(
                "GET",
                f"{self._service.url}{self._path}",
                headers=self._service.headers,
                timeout=120,
            ) as response:
                for part in response.iter_raw():
                    self.data += part
        except httpx.HTTPError as error:
            self.error = error


def test_half_a_minute_without_a_database(service: Service, door: Proxy) -> None:
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    script = f"""
        echo $SCRIPTSERVICE_COMMAND_ID >>{ran}
        for n in $(seq 0 399); do echo line $n; sleep 0.1; done
    """
    printing = service.submit(script)["id"]
    ending = service.submit(f"echo $SCRIPTSERVICE_COMMAND_ID >>{ran}; sleep 4; echo over; exit 3")[
        "id"
    ]
    timed = service.submit("sleep 600", timeout_seconds=5)["id"]
    stopped = service.submit("trap '' TERM; while :; do sleep 0.1; done", grace_seconds=4)["id"]
    followers = [
        Follower(service, f"/v1/commands/{printing}/output?follow=true"),
        Follower(service, f"/v1/commands/{printing}/events"),
    ]
    eventually(lambda: all(b"line 3" in each.data for each in followers), "lines to come")
    ask_to_stop(service, stopped)
    service.wait_for(stopped, "stopping")
    server = service.server_pid
    door.cut()
    away_since = time.monotonic()
    eventually(lambda: ready(service) == 503, "it to say that it is not ready")
    # Nothing that could not be kept is taken, and every answer says when to ask again.
    key = {"Idempotency-Key": "while it was away"}
    for response in (
        service.client.post("/v1/commands", json={"script": f"echo x >>{ran}"}, headers=key),
        service.client.get(f"/v1/commands/{printing}"),
        service.client.get("/v1/commands"),
        service.client.post(f"/v1/commands/{printing}/stop"),
        service.client.get(f"/v1/commands/{printing}/output"),
    ):
        assert_refused(response)
    assert service.client.get("/healthz").status_code == 200
    eventually(lambda: time.monotonic() - away_since > AWAY_SECONDS, "the time to pass", 60)
    door.mend()
    wait_until_ready(service)
    assert service.server_pid == server
    assert service.wait(ending)["exit_code"] == 3
    assert service.bytes_of(ending) == b"over\n"
    assert service.wait(timed)["status"] == "timed_out"
    assert service.wait(stopped)["status"] == "stopped"
    again = service.client.post(
        "/v1/commands", json={"script": f"echo x >>{ran}"}, headers=key, params={"wait": 20}
    )
    assert again.status_code == 201
    found = service.wait(printing, 60)
    assert found["status"] == "succeeded"
    expected = b"".join(b"line %d\n" % number for number in range(400))
    assert service.bytes_of(printing) == expected
    for each in followers:
        each.join(30)
        assert each.error is None
    assert followers[0].data == expected
    assert followers[1].data.count(b"event: end") == 1
    assert sorted(ran.read_text().split()) == sorted([printing, ending, "x"])
    # They ended when they ended, not when that could be stored.
    assert found["exited_at"] > service.get(ending)["exited_at"]


def test_a_server_killed_while_the_database_is_away(service: Service, door: Proxy) -> None:
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    command = service.submit(f"echo ran >>{ran}; for n in $(seq 60); do echo $n; sleep 0.1; done")[
        "id"
    ]
    service.wait_for(command, "running")
    door.cut()
    for _ in range(2):
        before = service.kill_server()
        eventually(lambda before=before: service.server_pid != before, "another server")
    # It answers, and says why it cannot do more.
    service.wait_until_up()
    response = httpx.get(f"{service.url}/readyz")
    assert_refused(response)
    assert_refused(service.client.get("/v1/commands"))
    assert httpx.get(f"{service.url}/healthz").status_code == 200
    assert "127.0.0.1" not in response.text
    assert "onnection" in service.output()
    door.mend()
    wait_until_ready(service)
    assert service.wait(command, 60)["status"] == "succeeded"
    assert service.bytes_of(command) == b"".join(b"%d\n" % n for n in range(1, 61))
    assert ran.read_text() == "ran\n"


def test_a_start_without_the_database(door: Proxy, url: str, make_service: MakeService) -> None:
    door.cut()
    service = make_service(database=through(door, url)).start(wait=False)
    service.wait_until_up()
    assert_refused(httpx.get(f"{service.url}/readyz"))
    assert_refused(httpx.post(f"{service.url}/v1/commands", json={"script": "true"}))
    assert not (service.data_dir / "token").exists()
    eventually(lambda: "refused" in service.output(), "the log to say why")
    door.mend()
    wait_until_ready(service)
    assert service.run("echo there")["status"] == "succeeded"
    assert service.output().count("start_waits") < 5


def test_a_shutdown_while_it_waits_for_the_database(
    door: Proxy, url: str, make_service: MakeService
) -> None:
    door.cut()
    service = make_service(database=through(door, url)).start(wait=False)
    service.wait_until_up()
    assert service.stop(30) == 0


def test_a_wrong_password_is_said_and_waited_for(
    postgres: Databases, url: str, make_service: MakeService
) -> None:
    wrong = make_url(url).set(username="not_yet_there", password="hunter2-secret")
    service = make_service(database=wrong.render_as_string(hide_password=False)).start(wait=False)
    service.wait_until_up()
    response = httpx.get(f"{service.url}/readyz")
    assert_refused(response)
    eventually(lambda: "not_yet_there" in service.output(), "the log to say why")
    postgres.execute("CREATE ROLE not_yet_there SUPERUSER LOGIN")
    try:
        wait_until_ready(service)
        assert service.run("echo there")["status"] == "succeeded"
        assert "hunter2-secret" not in service.output() + response.text
        assert service.stop() == 0
    finally:
        postgres.execute("DROP ROLE not_yet_there")


def test_a_database_that_takes_no_writes(
    postgres: Databases, url: str, make_service: MakeService
) -> None:
    service = make_service(database=url).start()
    script = "for n in $(seq 50); do echo $n; sleep 0.1; done"
    command = service.submit(script)["id"]
    follower = Follower(service, f"/v1/commands/{command}/output?follow=true")
    service.wait_for_output(command, b"3\n")
    name = make_url(url).database
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    postgres.execute(end)
    assert_refused(service.client.post("/v1/commands", json={"script": "true"}))
    # What is there can be read.
    assert service.client.get(f"/v1/commands/{command}").status_code == 200
    assert service.bytes_of(command).startswith(b"1\n2\n3\n")
    eventually(lambda: ready(service) == 503, "it to say that it is not ready")
    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    wait_until_ready(service)
    assert service.wait(command)["status"] == "succeeded"
    follower.join(20)
    assert follower.error is None
    assert follower.data == b"".join(b"%d\n" % n for n in range(1, 51))


def test_a_slow_database(service: Service, door: Proxy) -> None:
    command = service.submit("for n in $(seq 100); do echo $n; sleep 0.05; done")["id"]
    follower = Follower(service, f"/v1/commands/{command}/output?follow=true")
    door.commit_seconds = 2
    results: list[httpx.Response] = []

    def submit() -> None:
        results.append(
            httpx.post(
                f"{service.url}/v1/commands",
                json={"script": "echo slow"},
                headers=service.headers,
                timeout=60,
            )
        )

    threads = [threading.Thread(target=submit) for _ in range(20)]
    for thread in threads:
        thread.start()
    # What only reads, or looks at nothing, does not wait behind the commits.
    began = time.monotonic()
    assert service.client.get("/healthz").status_code == 200
    assert service.client.get(f"/v1/commands/{command}").status_code == 200
    assert time.monotonic() - began < 2
    for thread in threads:
        thread.join(60)
    assert {response.status_code for response in results} == {201}
    door.commit_seconds = 0
    for response in results:
        assert service.wait(response.json()["id"])["status"] == "succeeded"
    assert service.wait(command)["status"] == "succeeded"
    follower.join(20)
    assert follower.data == b"".join(b"%d\n" % n for n in range(1, 101))


@pytest.mark.parametrize("forward", [True, False])
def test_a_commit_whose_answer_is_lost_runs_once(
    service: Service, door: Proxy, forward: bool
) -> None:
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    for number in range(5):
        door.lose_commits(1, forward=forward)
        response = service.client.post(
            "/v1/commands", json={"script": f"echo {number} >>{ran}"}, params={"wait": 20}
        )
        assert response.status_code == 201
        assert service.wait(response.json()["id"])["status"] == "succeeded"
    assert sorted(ran.read_text().split()) == [str(number) for number in range(5)]


def test_a_second_server_on_the_same_database_does_not_stay(
    url: str, make_service: MakeService
) -> None:
    first = make_service(database=url).start()
    running = first.submit("echo there; sleep 600")["id"]
    first.wait_for_output(running, b"there\n")
    second = make_service(
        "--host-name", "second", database=url, data_dir=new_directory() / "data"
    ).start(wait=False)
    second.wait_until_up()
    assert_refused(httpx.get(f"{second.url}/readyz"))
    assert second.process is not None
    assert second.process.wait(60) == 1
    assert "cannot write: another server writes to this database" in second.output()
    assert first.run("echo still")["status"] == "succeeded"
    assert first.get(running)["status"] == "running"


def test_a_server_killed_in_the_midst_of_a_slow_commit(service: Service, door: Proxy) -> None:
    """What its session had sent is committed, or not, before the next server looks."""
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    service.run("true")
    door.commit_seconds = 1

    def submit() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(
                f"{service.url}/v1/commands",
                json={"script": f"echo x >>{ran}"},
                headers=service.headers,
                timeout=20,
            )

    submitting = threading.Thread(target=submit)
    before = door.commits
    submitting.start()
    eventually(lambda: door.commits > before, "the commit to be on its way")
    service.kill_server()
    submitting.join(30)
    door.commit_seconds = 0
    wait_until_ready(service)

    def settled() -> bool:
        items = service.client.get("/v1/commands").json()["items"]
        return all(item["status"] == "succeeded" for item in items)

    eventually(settled, "what was stored to run")
    stored = len(service.client.get("/v1/commands").json()["items"]) - 1
    assert ran.read_text() == "x\n" * stored


def test_migrate_at_the_start(make_service: MakeService, postgres: Databases) -> None:
    empty = postgres.empty()
    refused = make_service(database=empty).start(wait=False)
    assert refused.process is not None
    assert refused.process.wait(30) == 1
    assert "it is empty; run scriptservice migrate, or serve with --migrate" in refused.output()
    service = make_service("--migrate", database=empty).start()
    assert service.run("echo there")["status"] == "succeeded"
    assert service.stop() == 0
    postgres.drop(empty)


def test_a_database_that_was_put_back_after_a_failover(
    postgres: Databases, url: str, make_service: MakeService
) -> None:
    """A standby that lacks the last commits becomes the server."""
    service = make_service("--max-running", "1", database=url).start()
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    first = service.submit("sleep 600")["id"]
    waiting = service.submit(f"echo x >>{ran}")["id"]
    service.wait_for(first, "running")
    name = make_url(url).database
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    copy = f"{name}_standby"
    eventually(lambda: _copied(postgres, name, copy, end), "a copy")
    ask_to_stop(service, first, grace_seconds=0)
    service.wait(first)
    assert service.wait(waiting)["status"] == "succeeded"
    # The old one is gone, and the copy has its place.
    postgres.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres.execute(end)
    postgres.execute(f"ALTER DATABASE {name} RENAME TO {name}_old")
    postgres.execute(f"ALTER DATABASE {copy} RENAME TO {name}")
    wait_until_ready(service)
    service.submit("true")  # at the latest with the next record it is noticed
    # What the copy lacks, the journal still has.
    assert service.wait(first, 60)["status"] == "stopped"
    assert service.wait(waiting, 60)["status"] == "succeeded"
    assert service.run("echo new")["status"] == "succeeded"
    assert ran.read_text() == "x\n"
    assert service.stop() == 0
    postgres.execute(f"DROP DATABASE {name}_old WITH (FORCE)")


def _copied(postgres: Databases, name: str | None, copy: str, end: str) -> bool:
    """Copy a database; whoever is connected is put out for the moment that it takes."""
    try:
        postgres.execute(end)
        postgres.execute(f"CREATE DATABASE {copy} TEMPLATE {name} STRATEGY file_copy")
    except Exception:  # noqa: BLE001 - the service was back first
        return False
    return True


def test_a_server_waits_until_it_can_read_what_was_left_open(service: Service, url: str) -> None:
    service.stop()
    service.flags = ("--max-running", "1")
    service.start()
    running = service.submit("while [ ! -e /proc/self/gone ]; do sleep 0.1; done")["id"]
    service.wait_for(running, "running")
    waiting = [service.submit("echo ran", queue_timeout_seconds=600)["id"] for _ in range(3)]
    with psycopg.connect(url) as other:
        # What is open cannot be read, and all else that a start needs can.
        other.execute("LOCK TABLE inputs IN ACCESS EXCLUSIVE MODE")
        service.kill_server()
        logged = ("adoption_waits", "server_failed")
        eventually(lambda: any(each in service.output() for each in logged), "the log", 60)
        assert "server_failed" not in service.output()
        pid = service.server_pid
        other.rollback()
    ask_to_stop(service, running)
    for command in waiting:
        assert service.wait(command)["status"] == "succeeded"
        assert service.bytes_of(command) == b"ran\n"
    assert service.wait(running)["status"] == "stopped"
    assert service.server_pid == pid
    assert service.output().count("adoption_waits") == 1
