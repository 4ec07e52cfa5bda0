"""While PostgreSQL is away, slow or read-only, scripts continue and nothing is lost or doubled."""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from sqlalchemy import make_url

from support.gates import Gate
from support.postgres import Databases
from support.proxy import Proxy, proxy
from support.scripts import ask_to_stop
from support.service import (
    FINAL,
    PATIENCE_SECONDS,
    Service,
    eventually,
    new_directory,
    processes_with,
)

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"], scope="module")

AWAY_SECONDS = 12
"""Longer than the store waits for an answer (10 s)."""
MakeService = Callable[..., Service]


@pytest.fixture
def database_proxy(postgres: Databases) -> Iterator[Proxy]:
    """A proxy in front of the PostgreSQL server, which a test can cut."""
    with proxy(make_url(postgres.url("postgres")).port or 0) as made:
        yield made


@pytest.fixture
def url(postgres: Databases) -> Iterator[str]:
    """The URL of a database, without the proxy."""
    made = postgres.migrated()
    yield made
    postgres.drop(made)


def url_through(database_proxy: Proxy, url: str) -> str:
    return make_url(url).set(port=database_proxy.port).render_as_string(hide_password=False)


@pytest.fixture
def service(database_proxy: Proxy, url: str, make_service: MakeService) -> Service:
    return make_service(database=url_through(database_proxy, url)).start()


def get(service: Service, path: str) -> httpx.Response:
    return httpx.get(f"{service.url}{path}", timeout=PATIENCE_SECONDS, verify=False)


def ready(service: Service) -> int:
    return get(service, "/readyz").status_code


def wait_until_ready(service: Service) -> None:
    def up() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return ready(service) == 200
        return False

    eventually(up, "it to be ready")


def assert_refused(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert response.json()["type"] == "/problems/store-unavailable"
    assert int(response.headers["retry-after"]) >= 1


class Follower(threading.Thread):
    """Follows a command on one connection, in a thread."""

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
                timeout=PATIENCE_SECONDS,
                verify=False,
            ) as response:
                for part in response.iter_raw():
                    self.data += part
        except httpx.HTTPError as error:
            self.error = error


def test_a_database_that_is_away_for_long(service: Service, database_proxy: Proxy) -> None:
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    prints, ends = Gate(service), Gate(service)
    script = f"""
        echo $SCRIPTSERVICE_COMMAND_ID >>{ran}
        n=0; while {prints.closed}; do echo line $((n++)); sleep 0.1; done
    """
    printing = service.submit(script)["id"]
    ending = service.submit(
        f"echo $SCRIPTSERVICE_COMMAND_ID >>{ran}; {ends.block}; echo over; exit 3"
    )["id"]
    stopped = service.submit("trap '' TERM; echo up; while :; do sleep 0.1; done")["id"]
    service.wait_for_output(stopped, b"up")
    service.wait_for(ending, "running")
    timed = service.submit("sleep 3600", timeout_seconds=5)["id"]
    followers = [
        Follower(service, f"/v1/commands/{printing}/output?follow=true"),
        Follower(service, f"/v1/commands/{printing}/events"),
    ]
    eventually(lambda: all(b"line 3" in each.data for each in followers), "lines to come")
    ask_to_stop(service, stopped, grace_seconds=4)
    eventually(lambda: service.get(stopped)["status"] != "running", "its keeper to know")
    server = service.server_pid
    database_proxy.cut()
    away_since = time.monotonic()
    eventually(lambda: ready(service) == 503, "it to say that it is not ready")
    # No request is accepted that cannot be stored, and every answer says when to retry.
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
    ends.open()
    for command in (ending, timed, stopped):
        eventually(lambda: not processes_with(command), "it to end")  # noqa: B023
    eventually(lambda: time.monotonic() - away_since > AWAY_SECONDS, "the time to pass")
    back_at = datetime.now(UTC)
    printed = len(followers[0].data)
    database_proxy.restore()
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
    eventually(lambda: len(followers[0].data) > printed, "a follower to go on")
    prints.open()
    assert service.wait(printing)["status"] == "succeeded"
    lines = service.bytes_of(printing).count(b"\n")
    expected = b"".join(b"line %d\n" % number for number in range(lines))
    assert service.bytes_of(printing) == expected
    for each in followers:
        each.join(PATIENCE_SECONDS)
        assert each.error is None
    assert followers[0].data == expected
    assert followers[1].data.count(b"event: end") == 1
    assert sorted(ran.read_text().split()) == sorted([printing, ending, "x"])
    # Their exit times are those of the exits, not those at which they could be stored.
    for command in (ending, timed, stopped):
        assert datetime.fromisoformat(service.get(command)["exited_at"]) < back_at


def test_a_server_killed_while_the_database_is_away(
    service: Service, database_proxy: Proxy
) -> None:
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    gate = Gate(service)
    command = service.submit(f"echo ran >>{ran}; seq 30; {gate.block}; seq 31 60")["id"]
    service.wait_for(command, "running")
    database_proxy.cut()
    for _ in range(2):
        before = service.kill_server()
        eventually(lambda before=before: service.server_pid != before, "another server")
    # It answers, and says why it is not ready.
    service.wait_until_healthy()
    response = get(service, "/readyz")
    assert_refused(response)
    assert_refused(service.client.get("/v1/commands"))
    assert get(service, "/healthz").status_code == 200
    gate.open()
    assert "127.0.0.1" not in response.text
    assert "onnection" in service.output()
    database_proxy.restore()
    wait_until_ready(service)
    assert service.wait(command)["status"] == "succeeded"
    assert service.bytes_of(command) == b"".join(b"%d\n" % n for n in range(1, 61))
    assert ran.read_text() == "ran\n"


def test_a_start_without_the_database(
    database_proxy: Proxy, url: str, make_service: MakeService
) -> None:
    database_proxy.cut()
    service = make_service(database=url_through(database_proxy, url)).start(wait=False)
    service.wait_until_healthy()
    assert_refused(get(service, "/readyz"))
    refused = httpx.post(
        f"{service.url}/v1/commands",
        json={"script": "true"},
        timeout=PATIENCE_SECONDS,
        verify=False,
    )
    assert_refused(refused)
    assert not (service.data_dir / "token").exists()
    eventually(lambda: "refused" in service.output(), "the log to say why")
    database_proxy.restore()
    wait_until_ready(service)
    assert service.run("echo there")["status"] == "succeeded"
    assert service.output().count("start_waits") < 5


def test_a_shutdown_while_it_waits_for_the_database(
    database_proxy: Proxy, url: str, make_service: MakeService
) -> None:
    database_proxy.cut()
    service = make_service(database=url_through(database_proxy, url)).start(wait=False)
    service.wait_until_healthy()
    assert service.stop() == 0


def test_a_wrong_password_is_reported_and_waited_for(
    postgres: Databases, url: str, make_service: MakeService
) -> None:
    wrong = make_url(url).set(username="not_yet_there", password="hunter2-secret")
    service = make_service(database=wrong.render_as_string(hide_password=False)).start(wait=False)
    service.wait_until_healthy()
    response = get(service, "/readyz")
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


def test_a_read_only_database(postgres: Databases, url: str, make_service: MakeService) -> None:
    service = make_service(database=url).start()
    gate = Gate(service)
    command = service.submit(f"seq 25; {gate.block}; seq 26 50")["id"]
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
    # Stored commands can be read.
    assert service.client.get(f"/v1/commands/{command}").status_code == 200
    assert service.bytes_of(command).startswith(b"1\n2\n3\n")
    eventually(lambda: ready(service) == 503, "it to say that it is not ready")
    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    wait_until_ready(service)
    gate.open()
    assert service.wait(command)["status"] == "succeeded"
    follower.join(PATIENCE_SECONDS)
    assert follower.error is None
    assert follower.data == b"".join(b"%d\n" % n for n in range(1, 51))


def test_a_slow_database(service: Service, database_proxy: Proxy) -> None:
    command = service.submit("for n in $(seq 100); do echo $n; sleep 0.05; done")["id"]
    follower = Follower(service, f"/v1/commands/{command}/output?follow=true")

    def submit(_: int) -> httpx.Response:
        return httpx.post(
            f"{service.url}/v1/commands",
            json={"script": "echo slow"},
            headers=service.headers,
            timeout=PATIENCE_SECONDS,
            verify=False,
        )

    with ThreadPoolExecutor(20) as pool:
        # Reads and health checks do not wait for the commits.
        before = database_proxy.commits
        database_proxy.hold_commits()
        held = pool.submit(submit, 0)
        eventually(lambda: database_proxy.commits > before, "the commit to be held")
        assert service.client.get("/healthz").status_code == 200
        assert service.client.get(f"/v1/commands/{command}").status_code == 200
        database_proxy.release_commits()
        assert held.result().status_code in (201, 503)  # 503 if it was held for too long
        database_proxy.commit_seconds = 1
        results = list(pool.map(submit, range(20)))
    assert {response.status_code for response in results} == {201}
    database_proxy.commit_seconds = 0
    for response in results:
        assert service.wait(response.json()["id"])["status"] == "succeeded"
    assert service.wait(command)["status"] == "succeeded"
    follower.join(PATIENCE_SECONDS)
    assert follower.data == b"".join(b"%d\n" % n for n in range(1, 101))


@pytest.mark.parametrize("forward", [True, False])
def test_a_commit_whose_answer_is_lost_runs_once(
    service: Service, database_proxy: Proxy, forward: bool
) -> None:
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    for number in range(5):
        database_proxy.lose_commits(1, forward=forward)
        response = service.client.post(
            "/v1/commands", json={"script": f"echo {number} >>{ran}"}, params={"wait": 20}
        )
        assert response.status_code == 201
        assert service.wait(response.json()["id"])["status"] == "succeeded"
    assert sorted(ran.read_text().split()) == [str(number) for number in range(5)]


def test_a_second_server_on_the_same_database_is_refused(
    url: str, make_service: MakeService
) -> None:
    first = make_service(database=url).start()
    running = first.submit("echo there; sleep 3600")["id"]
    first.wait_for_output(running, b"there\n")
    waiting = first.submit("true", host=first.get(running)["host"])["id"]
    second = make_service("--host-name", "second", database=url, data_dir=new_directory() / "data")
    for meanwhile in (lambda: None, first.kill_server, first.kill_server):
        second.start(wait=False)
        assert second.process is not None
        # Also while the keeper is restarting the first service's server.
        eventually(lambda: "start_waits" in second.output() or second.process.poll(), "it to try")
        meanwhile()
        assert second.process.wait(PATIENCE_SECONDS) == 1
        assert "cannot write: another server writes to this database" in second.output()
        wait_until_ready(first)
    assert first.run("echo still")["status"] == "succeeded"
    assert first.wait(waiting)["status"] == "succeeded"
    assert first.get(running)["status"] == "running"


def test_another_host_takes_over_a_database_without_a_writer(
    url: str, make_service: MakeService
) -> None:
    first = make_service(database=url).start()
    command = first.run("echo kept")["id"]
    token = first.token
    assert first.stop() == 0
    second = make_service(
        "--host-name", "second", database=url, data_dir=new_directory() / "data"
    ).start(wait=False)
    wait_until_ready(second)
    assert "making sure that no other server writes" in second.output()
    answer = httpx.get(
        f"{second.url}/v1/commands/{command}/output",
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENCE_SECONDS,
        verify=False,
    )
    assert answer.content == b"kept\n"


def test_a_server_killed_during_a_slow_commit(service: Service, database_proxy: Proxy) -> None:
    """The killed server's transaction is committed, or not, before the next server reads."""
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    service.run("true")
    database_proxy.commit_seconds = 1

    def submit() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(
                f"{service.url}/v1/commands",
                json={"script": f"echo x >>{ran}"},
                headers=service.headers,
                timeout=PATIENCE_SECONDS,
                verify=False,
            )

    submitting = threading.Thread(target=submit)
    before = database_proxy.commits
    submitting.start()
    eventually(lambda: database_proxy.commits > before, "the commit to be on its way")
    service.kill_server()
    submitting.join(PATIENCE_SECONDS)
    database_proxy.commit_seconds = 0
    wait_until_ready(service)

    def all_succeeded() -> bool:
        items = service.client.get("/v1/commands").json()["items"]
        return all(item["status"] == "succeeded" for item in items)

    eventually(all_succeeded, "all stored commands to run")
    stored = len(service.client.get("/v1/commands").json()["items"]) - 1
    assert ran.read_text() == "x\n" * stored


def test_migrate_at_the_start(make_service: MakeService, postgres: Databases) -> None:
    empty = postgres.empty()
    refused = make_service(database=empty).start(wait=False)
    assert refused.process is not None
    assert refused.process.wait(PATIENCE_SECONDS) == 1
    assert "it is empty; run scriptservice migrate, or serve with --migrate" in refused.output()
    service = make_service("--migrate", database=empty).start()
    assert service.run("echo there")["status"] == "succeeded"
    assert service.stop() == 0
    postgres.drop(empty)


class Failover:
    """A standby that lacks the last commits and replaces the primary.

    Args:
        postgres: the PostgreSQL server, which plays both.
        url: URL of the database.
    """

    def __init__(self, postgres: Databases, url: str) -> None:
        self._postgres = postgres
        self._name = make_url(url).database
        self._end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{self._name}' AND pid <> pg_backend_pid()"
        )

    def copy(self) -> None:
        """Make the standby a copy of the present database."""
        eventually(self._copied, "a copy")

    def _copied(self) -> bool:
        try:
            # The copy needs a database without connections, so these are ended first.
            self._postgres.execute(self._end)
            self._postgres.execute(
                f"CREATE DATABASE {self._name}_standby TEMPLATE {self._name} STRATEGY file_copy"
            )
        except psycopg.Error:
            return False
        return True

    def swap(self) -> None:
        """Let the standby replace the primary."""
        self._postgres.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        self._postgres.execute(self._end)
        self._postgres.execute(f"ALTER DATABASE {self._name} RENAME TO {self._name}_old")
        self._postgres.execute(f"ALTER DATABASE {self._name}_standby RENAME TO {self._name}")

    def close(self) -> None:
        """Remove the former primary."""
        self._postgres.execute(f"DROP DATABASE IF EXISTS {self._name}_old WITH (FORCE)")


@pytest.fixture
def failover(postgres: Databases, url: str) -> Iterator[Failover]:
    made = Failover(postgres, url)
    yield made
    made.close()


@pytest.fixture
def ran() -> Iterator[Path]:
    """A file to which each script appends when it runs."""
    directory = new_directory()
    path = directory / "ran"
    path.touch()
    path.chmod(0o666)
    yield path
    shutil.rmtree(directory)


def submitted(service: Service, script: str) -> str:
    """Submit a script; repeat the request until it is accepted."""

    def made() -> str:
        with contextlib.suppress(httpx.HTTPError):
            response = service.client.post("/v1/commands", json={"script": script})
            if response.status_code == 201:
                return str(response.json()["id"])
        return ""

    return str(eventually(made, "a submit to be taken"))


def test_results_lost_by_a_failover_are_stored_again_and_nothing_runs_twice(
    url: str, failover: Failover, ran: Path, make_service: MakeService
) -> None:
    service = make_service("--max-running", "1", database=url).start()
    first = service.submit("sleep 3600")["id"]
    gate = Gate(service)
    waiting = [
        service.submit(f"echo {number} >>{ran}; {gate.block if number == 5 else ':'}")["id"]
        for number in range(20)
    ]
    service.wait_for(first, "running")
    failover.copy()
    wait_until_ready(service)
    ask_to_stop(service, first, grace_seconds=0)
    service.wait(waiting[2])
    # Amid a busy queue: the standby does not know that some commands have run.
    eventually(lambda: "5" in ran.read_text().split(), "some of the queue to run")
    failover.swap()
    wait_until_ready(service)
    gate.open()

    def ended(command: str) -> dict[str, Any]:
        return dict(eventually(lambda: _final(service, command), f"{command} to end"))

    for command in waiting:
        assert ended(command)["status"] == "succeeded"
    assert ended(first)["status"] == "stopped"
    assert sorted(map(int, ran.read_text().split())) == list(range(20))
    assert service.run("echo new")["status"] == "succeeded"


def _final(service: Service, command: str) -> dict[str, Any] | None:
    """Return a command if it is final; None if it is not, or the server does not answer."""
    with contextlib.suppress(httpx.HTTPError):
        response = service.client.get(f"/v1/commands/{command}")
        if response.status_code == 200 and response.json()["status"] in FINAL:
            return dict(response.json())
    return None


def test_commands_submitted_after_a_failover_run_to_their_end(
    url: str, failover: Failover, ran: Path, make_service: MakeService
) -> None:
    service = make_service(database=url).start()
    service.run("echo before")
    failover.copy()
    wait_until_ready(service)
    service.run("echo lost with the server")
    gate = Gate(service)
    long = service.submit(f"echo one; {gate.block}; echo two; echo ended >>{ran}")["id"]
    service.wait_for_output(long, b"one\n")
    failover.swap()
    command = submitted(service, f"echo one; {gate.block}; echo two")
    service.wait_for_output(command, b"one\n")
    gate.open()
    eventually(lambda: _final(service, command), "it to end")
    assert service.get(command)["status"] == "succeeded"
    assert service.bytes_of(command) == b"one\ntwo\n"
    # The standby does not know this command, so it is not found; it still runs to its end, once.
    assert service.client.get(f"/v1/commands/{long}").status_code == 404
    eventually(ran.read_text, "it to run to its end")
    assert ran.read_text() == "ended\n"


def test_a_server_waits_until_it_can_read_the_open_commands(service: Service, url: str) -> None:
    service.stop()
    service.flags = ("--max-running", "1")
    service.start()
    running = service.submit("while [ ! -e /proc/self/gone ]; do sleep 0.1; done")["id"]
    service.wait_for(running, "running")
    waiting = [service.submit("echo ran", queue_timeout_seconds=600)["id"] for _ in range(3)]
    with psycopg.connect(url) as other:
        # The open commands cannot be read, but everything else that a start needs can.
        other.execute("LOCK TABLE inputs IN ACCESS EXCLUSIVE MODE")
        service.kill_server()
        logged = ("adoption_waits", "server_failed")
        eventually(lambda: any(each in service.output() for each in logged), "the log")
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


def test_a_command_without_any_record_of_its_end_is_lost_and_blocks_nobody(
    url: str, failover: Failover, make_service: MakeService
) -> None:
    service = make_service("--max-running", "1", database=url).start()
    first = service.submit("sleep 3600")["id"]
    service.wait_for(first, "running")
    failover.copy()
    wait_until_ready(service)
    ask_to_stop(service, first, grace_seconds=0)
    service.wait(first)
    # So much output that the segment with the record of that end is dropped.
    big = service.submit("head -c 140000000 /dev/zero")["id"]
    service.wait(big)
    failover.swap()
    command = submitted(service, "echo new")
    eventually(lambda: _final(service, command), "the queue to go on")
    found = service.get(first)
    assert found["status"] == "lost"
    assert service.get(command)["status"] == "succeeded"
