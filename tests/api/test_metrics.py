"""``GET /metrics``: counters, current values, and their agreement with the docs."""

import contextlib
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from support.gates import Gate
from support.problems import assert_problem
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service, eventually, running_service

DOCS = Path(__file__).parents[2] / "docs"
Make = Callable[..., Service]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service("--max-running", "1") as shared:
        yield shared


class Samples(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Samples by name and labels."""

    def value(self, name: str, **labels: str) -> float:
        return self[f"scriptservice_{name}", frozenset(labels.items())]

    def has(self, name: str, **labels: str) -> bool:
        return (f"scriptservice_{name}", frozenset(labels.items())) in self

    def of(self, name: str) -> list[dict[str, str]]:
        """Return the labels of all samples with a name."""
        return [dict(labels) for found, labels in self if found == f"scriptservice_{name}"]


def scrape(service: Service) -> Samples:
    response = service.client.get("/metrics")
    assert response.status_code == 200, response.text
    samples = Samples()
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def finished(samples: Samples) -> dict[str, float]:
    name = "commands_finished_total"
    return {found["status"]: samples.value(name, **found) for found in samples.of(name)}


def stop(service: Service, command: dict[str, Any]) -> None:
    url = f"/v1/commands/{command['id']}/stop"
    assert service.client.post(url, json={"grace_seconds": 0}).status_code == 202
    service.wait(command["id"])


@pytest.fixture
def busy(service: Service) -> Iterator[dict[str, Any]]:
    """A command that occupies the only slot until the test ends it."""
    command = service.submit("exec sleep 3600")
    service.wait_for(command["id"], "running")
    yield command
    if service.get(command["id"])["status"] == "running":
        stop(service, command)


# The answer


def test_it_needs_a_token_and_takes_no_query(service: Service) -> None:
    refused = httpx.get(f"{service.url}/metrics", timeout=PATIENCE_SECONDS, verify=False)
    assert_problem(refused, "unauthenticated")
    assert_problem(service.client.get("/metrics", params={"name[]": "x"}), "validation")
    refused = service.client.post("/metrics")
    assert_problem(refused, "method-not-allowed")
    assert refused.headers["allow"] == "GET, HEAD"
    head = service.client.head("/metrics")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=many", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "openmetrics"),
    ],
)
def test_the_format_follows_the_accept_header(
    service: Service, accept: str | None, content_type: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    response = service.client.get("/metrics", headers=headers)
    assert response.status_code == 200
    if content_type != "openmetrics":
        assert response.headers["content-type"] == content_type
        return
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0")
    families = {family.name: family.type for family in openmetrics_families(response.text)}
    assert families["scriptservice_commands_finished"] == "counter"
    assert families["scriptservice_build"] == "info"


def test_the_document_has_every_metric_with_its_type_and_labels(service: Service) -> None:
    service.run("true")
    service.client.get("/v1/hosts")
    found = {}
    for family in text_string_to_metric_families(service.client.get("/metrics").text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert family.documentation
        assert name not in found
        found[name] = (family.type, labels)
    documented = {}
    for line in (DOCS / "reference" / "metrics.md").read_text().splitlines():
        if row := re.match(r"\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) ?\| ", line):
            documented[row[1]] = (row[2], set(re.findall(r"`(\w+)`", row[3])))
    assert found == documented


def test_promtool_accepts_the_metrics_and_the_documented_expressions(
    service: Service, tmp_path: Path
) -> None:
    """Every documented expression uses only existing metrics."""
    text = service.client.get("/metrics").text
    names = {sample.name for one in text_string_to_metric_families(text) for sample in one.samples}
    page = (DOCS / "how-to" / "monitor.md").read_text()
    watch = page.partition("## What to watch")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)`", watch, re.MULTILINE)
    assert len(rows) >= 4
    for expression in rows:
        for name in re.findall(r"scriptservice_\w+", expression):
            assert name in names, expression
    if promtool := shutil.which("promtool"):
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        rules = tmp_path / "rules.yaml"
        alerts = "".join(
            f"      - {{alert: A{number}, expr: '{row}'}}\n" for number, row in enumerate(rows)
        )
        rules.write_text(f"groups:\n  - name: all\n    rules:\n{alerts}")
        done = subprocess.run(
            [promtool, "check", "rules", str(rules)], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


# Counters


def test_commands_are_counted_by_final_status(service: Service) -> None:
    before = scrape(service)
    service.run("printf 12345; printf 123 >&2")
    service.run("exit 3")
    service.run("true", interpreter=["/no/such/interpreter"])
    service.run("sleep 3600", timeout_seconds=0.1, grace_seconds=0)
    running = service.submit("exec sleep 3600")
    service.wait_for(running["id"], "running")
    # These two never start.
    waiting = service.submit("true")
    service.run("true", queue_timeout_seconds=0.05)
    stop(service, waiting)
    stop(service, running)
    after = scrape(service)
    counted = {name: value - finished(before)[name] for name, value in finished(after).items()}
    assert counted == {"succeeded": 1, "failed": 2, "stopped": 2, "timed_out": 2, "lost": 0}
    for name, count in (("wait", 4), ("start", 4), ("run", 4)):
        sample = f"command_{name}_seconds_count"
        assert after.value(sample) - before.value(sample) == count, name
    for stream, count in (("stdout", 5), ("stderr", 3)):
        name = "output_stored_bytes_total"
        assert after.value(name, stream=stream) - before.value(name, stream=stream) == count


def test_wait_and_run_seconds_agree_with_the_commands(
    service: Service, busy: dict[str, Any]
) -> None:
    before = scrape(service)
    waiting = service.submit("sleep 0.3")
    eventually(lambda: scrape(service).value("commands_queued", where="database"), "it to wait")
    stop(service, busy)
    done = service.wait(waiting["id"])
    after = scrape(service)

    def added(name: str) -> float:
        return after.value(f"command_{name}_seconds_sum") - before.value(
            f"command_{name}_seconds_sum"
        )

    def seconds(since: str, until: str, command: dict[str, Any]) -> float:
        start, end = (datetime.fromisoformat(command[name]) for name in (since, until))
        return (end - start).total_seconds()

    assert added("wait") == pytest.approx(seconds("created_at", "started_at", done), abs=1e-5)
    ended = service.get(busy["id"])
    runs = sum(seconds("started_at", "finished_at", one) for one in (ended, done))
    assert added("run") == pytest.approx(runs, abs=1e-5)
    # The start is measured from the dispatch, which comes later than the submit.
    assert 0 < added("start") < added("wait")


def test_transactions_are_counted_with_their_items(service: Service) -> None:
    before = scrape(service)
    service.run("true")
    after = scrape(service)
    for part in ("items", "seconds"):
        name = f"store_transaction_{part}"
        assert after.value(f"{name}_count") > before.value(f"{name}_count")
        assert after.value(f"{name}_sum") > before.value(f"{name}_sum")
    items = after.value("store_transaction_items_sum") - before.value("store_transaction_items_sum")
    count = "store_transaction_items_count"
    assert items >= after.value(count) - before.value(count)


def test_requests_are_counted_by_route_method_and_status(service: Service) -> None:
    unknown, made_up = uuid.uuid4(), uuid.uuid4().hex
    command = service.run("true")["id"]
    before = scrape(service)
    wanted = [
        ("GET", f"/v1/commands/{unknown}", "/v1/commands/{id}", 404),
        ("GET", f"/v1/commands/{command}?wait=0", "/v1/commands/{id}", 200),
        ("HEAD", f"/v1/commands/{command}/output", "/v1/commands/{id}/output", 200),
        ("GET", "/v1/commands?limit=x", "/v1/commands", 422),
        ("PUT", "/v1/commands", "/v1/commands", 405),
        ("POST", f"/v1/commands/{unknown}/stop", "/v1/commands/{id}/stop", 404),
        ("GET", f"/{made_up}", "other", 404),
        ("PROPFIND", "/v1/hosts", "/v1/hosts", 405),
    ]
    for method, url, _, status in wanted:
        assert service.client.request(method, url).status_code == status
    refused = httpx.get(f"{service.url}/v1/hosts", timeout=PATIENCE_SECONDS, verify=False)
    assert refused.status_code == 401
    after = scrape(service)
    name = "http_requests_total"
    new = {}
    for labels in after.of(name):
        old = before.value(name, **labels) if before.has(name, **labels) else 0
        if after.value(name, **labels) != old:
            new[labels["method"], labels["route"], labels["status"]] = (
                after.value(name, **labels) - old
            )
    expected = {
        (m if len(m) < 8 else "other", route, str(status)): 1.0 for m, _, route, status in wanted
    }
    expected["GET", "/v1/hosts", "401"] = 1.0
    expected["GET", "/metrics", "200"] = 1.0
    assert new == expected
    text = service.client.get("/metrics").text
    assert made_up not in text.lower()
    assert command not in text


def test_response_times_exclude_wait_and_follow(service: Service, busy: dict[str, Any]) -> None:
    name = "http_response_start_seconds"
    get = {"route": "/v1/commands/{id}", "method": "GET"}
    follow = {"route": "/v1/commands/{id}/output", "method": "GET"}
    before = scrape(service)
    assert not before.has(f"{name}_count", **follow)
    held = service.client.get(f"/v1/commands/{busy['id']}", params={"wait": "0.5"})
    assert held.json()["status"] == "running"
    url = f"/v1/commands/{busy['id']}/output"
    began = time.monotonic()
    with service.client.stream("GET", url, params={"follow": "true"}) as response:
        until_start_seconds = time.monotonic() - began
        assert response.status_code == 200
        time.sleep(0.2)  # the whole answer takes longer than its start
        stopped = httpx.post(
            f"{service.url}/v1/commands/{busy['id']}/stop",
            json={"grace_seconds": 0},
            headers=service.headers,
            timeout=PATIENCE_SECONDS,
            verify=False,
        )
        assert stopped.status_code == 202
        response.read()
    eventually(lambda: service.get(busy["id"])["status"] == "stopped", "its end")
    after = scrape(service)
    assert after.value(f"{name}_count", **follow) == 1
    assert after.value(f"{name}_sum", **follow) <= until_start_seconds

    def of_all(samples: Samples, what: str) -> float:
        found = [labels for labels in samples.of(what) if get.items() <= labels.items()]
        return sum(samples.value(what, **labels) for labels in found)

    def added(what: str) -> float:
        return of_all(after, what) - of_all(before, what)

    assert added("http_requests_total") - added(f"{name}_count") == 1


# Current values


def test_running_and_queued_commands_are_reported(service: Service, busy: dict[str, Any]) -> None:
    now = scrape(service)
    assert now.value("commands_running") == 1
    assert now.value("commands_queued", where="database") == 0
    others = [service.submit("true") for _ in range(3)]
    now = scrape(service)
    assert now.value("commands_running") == 1
    assert now.value("commands_queued", where="database") == 3
    stop(service, busy)
    for other in others:
        service.wait(other["id"])
    eventually(lambda: scrape(service).value("commands_running") == 0, "nothing to run")
    assert scrape(service).value("commands_queued", where="database") == 0


@pytest.mark.parametrize(
    ("kind", "path"),
    [("output", "/output?follow=true"), ("events", "/events"), ("wait", "?wait=60")],
)
def test_followers_are_counted_while_they_follow(
    service: Service, busy: dict[str, Any], kind: str, path: str
) -> None:
    def followers() -> float:
        now = scrape(service)
        for other in {"output", "events", "wait"} - {kind}:
            assert now.value("followers", kind=other) == 0
        return now.value("followers", kind=kind)

    assert followers() == 0
    url = f"{service.url}/v1/commands/{busy['id']}{path}"

    def follow() -> None:
        with httpx.stream(
            "GET", url, headers=service.headers, timeout=PATIENCE_SECONDS, verify=False
        ) as response:
            response.read()

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: followers() == 2, "two followers")
    stop(service, busy)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    eventually(lambda: followers() == 0, "no follower")


def test_a_follower_that_disconnects_is_not_counted(service: Service, busy: dict[str, Any]) -> None:
    url = f"{service.url}/v1/commands/{busy['id']}/events"
    with httpx.stream(
        "GET", url, headers=service.headers, timeout=PATIENCE_SECONDS, verify=False
    ) as response:
        parts = response.iter_bytes()
        next(parts)
        eventually(lambda: scrape(service).value("followers", kind="events") == 1, "a follower")
    eventually(lambda: scrape(service).value("followers", kind="events") == 0, "no follower")


@contextlib.contextmanager
def write_lock(service: Service) -> Iterator[None]:
    """Hold the write lock of the database while the ``with`` block runs."""
    with contextlib.closing(
        sqlite3.connect(service.data_dir / "scriptservice.db", timeout=PATIENCE_SECONDS)
    ) as held:
        held.isolation_level = None
        held.execute("BEGIN IMMEDIATE")
        yield
        held.execute("ROLLBACK")


def test_the_journal_lag_is_the_output_not_stored_yet(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"{gate.wait}; seq 1000; sleep 3600")
    service.wait_for(command["id"], "running")
    lags = ("journal_lag_bytes", "journal_lag_seconds", "spool_bytes")

    def is_idle() -> bool:
        now = scrape(service)
        return all(now.value(name) == 0 for name in lags)

    eventually(is_idle, "all to be stored, and the keeper to know")
    with write_lock(service):
        began = time.time()
        gate.open()
        eventually(lambda: scrape(service).value("journal_lag_bytes") > 3893, "a lag")
        eventually(lambda: scrape(service).value("journal_lag_seconds") > 0.3, "an old record")
        behind = scrape(service)
        assert behind.value("spool_bytes") >= behind.value("journal_lag_bytes")
        assert behind.value("spool_full") == 0
        assert 0.3 < behind.value("journal_lag_seconds") < time.time() - began
    eventually(is_idle, "all to be stored, and the keeper to know")
    stop(service, command)


def test_without_a_database_the_other_metrics_are_reported(service: Service) -> None:
    database = service.data_dir / "scriptservice.db"

    def rename(old: str, new: str) -> None:
        with contextlib.closing(sqlite3.connect(database, timeout=PATIENCE_SECONDS)) as other:
            other.execute(f"ALTER TABLE {old} RENAME TO {new}")

    rename("commands", "elsewhere")
    try:
        now = scrape(service)
        assert service.client.get("/v1/commands").status_code == 503
    finally:
        rename("elsewhere", "commands")
    assert not now.has("commands_queued", where="database")
    assert now.value("commands_queued", where="keeper") == 0
    assert now.value("commands_running") == 0
    assert scrape(service).value("commands_queued", where="database") == 0


def test_while_the_keeper_hangs_the_other_metrics_are_reported(service: Service) -> None:
    assert service.process is not None
    service.process.send_signal(signal.SIGSTOP)
    try:
        now = scrape(service)
    finally:
        service.process.send_signal(signal.SIGCONT)
    for name in ("commands_running", "spool_bytes", "spool_full"):
        assert not now.has(name)
    assert now.value("commands_queued", where="database") == 0
    again = eventually(lambda: samples_with_the_keepers(service), "the keeper to answer")
    assert again.value("commands_running") == 0


def samples_with_the_keepers(service: Service) -> Samples | None:
    """Return the samples if the keeper's are among them."""
    now = scrape(service)
    return now if now.has("commands_running") else None


# Deaths


@MAINLY_ON_SQLITE
def test_a_killed_server_is_counted_and_its_commands_are_not_counted_again(
    make_service: Make,
) -> None:
    service = make_service().start()
    for _ in range(5):
        service.run("true")
    gate = Gate(service)
    running = service.submit(f"{gate.wait}; exit 4")
    service.wait_for(running["id"], "running")
    before = scrape(service)
    assert finished(before)["succeeded"] == 5
    assert before.value("server_restarts_total") == 0
    service.kill_server()
    gate.open()
    service.wait(running["id"])
    after = eventually(lambda: scraped_after_a_death(service), "an answer")
    assert after.value("server_restarts_total") == 1
    assert finished(after) == {"succeeded": 0, "failed": 1, "stopped": 0, "timed_out": 0, "lost": 0}
    assert after.value("command_run_seconds_count") == 1


def scraped_after_a_death(service: Service) -> Samples | None:
    with contextlib.suppress(httpx.TransportError):
        return scrape(service)
    return None


@MAINLY_ON_SQLITE
def test_commands_lost_with_a_keeper_are_counted_once(make_service: Make) -> None:
    service = make_service().start()
    running = service.submit("exec sleep 3600")
    service.wait_for(running["id"], "running")
    service.kill_keeper()
    service.close_client()
    service.start()
    assert service.wait(running["id"])["status"] == "lost"
    now = scrape(service)
    assert finished(now)["lost"] == 1
    assert now.value("server_restarts_total") == 0
