"""Clients made by generators from the OpenAPI document: one in Python, types in TypeScript."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from support.needs import require
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service

pytestmark = MAINLY_ON_SQLITE

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
PACKAGE = "generated_client"
# The generator knows no text bodies; this makes it send a script as the bytes that it gets.
CONFIG = {"content_type_overrides": {"text/x-shellscript": "application/octet-stream"}}
CONSUMER = """
import type { components, paths } from './schema';

type Submit = paths['/v1/commands']['post']['requestBody']['content']['application/json'];
type Command = paths['/v1/commands']['post']['responses'][201]['content']['application/json'];
type List = paths['/v1/commands']['get'];
type Problem = components['schemas']['Problem'];

export const body: Submit = { script: 'true', labels: { team: 'db' }, timeout_seconds: null };
export const query: List['parameters']['query'] = { status: ['running', 'queued'], limit: 10 };
export const exitCode = (command: Command): number | null => command.exit_code;
export const ids = (page: List['responses'][200]['content']['application/json']): string[] =>
  page.items.map((command) => command.id);
export const detail = (problem: Problem): string => problem.detail;
// @ts-expect-error: the script is required
export const empty: Submit = {};
// @ts-expect-error: an unknown field
export const unknown: Submit = { script: 'true', priorty: 1 };
"""


@pytest.fixture(scope="module")
def document(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(service.client.get("/openapi.json").content)
    return path


def run(*command: str | Path, **options: Any) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# Python


@pytest.fixture(scope="module")
def generated(document: Path) -> Iterator[SimpleNamespace]:
    """The modules of a generated client, by the names that the document gives them."""
    printed = subprocess.run(
        [ROOT / "scripts" / "client-generator"], check=True, stdout=subprocess.PIPE, text=True
    )
    libraries = printed.stdout.strip()
    config = document.with_name("config.json")
    config.write_text(json.dumps({**CONFIG, "post_hooks": []}))
    said = run(
        *(sys.executable, "-m", "openapi_python_client", "generate", "--path", document),
        *("--meta", "none", "--config", config, "--output-path", document.parent / PACKAGE),
        env={**os.environ, "PYTHONPATH": libraries},
    )
    warnings = [line for line in said.splitlines() if "WARNING" in line or "Unsupported" in line]
    assert warnings == [
        "WARNING parsing POST /v1/commands within commands.",
        "Unsupported content type text/plain",
    ]
    # Behind the installed packages, so that only those that are missing come from there.
    paths = [str(document.parent), libraries]
    sys.path.extend(paths)

    def load(name: str) -> Any:
        return importlib.import_module(f"{PACKAGE}.{name}")

    yield SimpleNamespace(
        client=load("client"),
        types=load("types"),
        models=load("models"),
        submit=load("api.commands.submit_command"),
        list=load("api.commands.list_commands"),
        get=load("api.commands.get_command"),
        stop=load("api.commands.stop_command"),
        output=load("api.output.get_output"),
        health=load("api.health.get_health"),
    )
    for path in paths:
        sys.path.remove(path)


@pytest.fixture
def client(generated: SimpleNamespace, service: Service) -> Iterator[Any]:
    with generated.client.AuthenticatedClient(
        base_url=service.url, token=service.token, timeout=PATIENCE_SECONDS
    ) as made:
        yield made


def wait(generated: SimpleNamespace, client: Any, command_id: UUID) -> Any:
    """Wait for a command's end with the generated client; return the command."""
    while True:
        command = generated.get.sync(command_id, client=client, wait=30)
        if command.finished_at is not None:
            return command


def test_a_generated_client_submits_json(
    generated: SimpleNamespace, client: Any, service: Service
) -> None:
    body = generated.models.Submit(
        script=r"printf '\377\0%s' $1", args=["x"], timeout_seconds=PATIENCE_SECONDS
    )
    answer = generated.submit.sync_detailed(client=client, body=body)
    assert answer.status_code == 201, answer.content
    command = wait(generated, client, answer.parsed.id)
    assert (command.status, command.exit_code) == (generated.models.Status.SUCCEEDED, 0)
    # What the client sends of its own accord are the defaults of the service.
    submitted, usual = service.get(str(command.id)), service.run("true")
    for field in ("grace_seconds", "leftover_seconds", "output_limit_bytes", "priority"):
        assert submitted[field] == usual[field]
    assert generated.output.sync(command.id, client=client).payload.read() == b"\xff\0x"


def test_a_generated_client_submits_a_script_as_it_is(
    generated: SimpleNamespace, client: Any
) -> None:
    script = "#!/usr/bin/env bash\necho $1 $KEY; exit 3\n"
    answer = generated.submit.sync_detailed(
        client=client,
        body=generated.types.File(payload=BytesIO(script.encode())),
        name="raw",
        label=["team=raw"],
        arg=["word"],
        env=["KEY=value"],
        wait=30,
    )
    assert answer.status_code == 201, answer.content
    command = wait(generated, client, answer.parsed.id)
    assert (command.name, command.script, command.exit_code) == ("raw", script, 3)
    assert generated.output.sync(command.id, client=client).payload.read() == b"word value\n"


def test_a_generated_client_lists_and_stops(
    generated: SimpleNamespace, client: Any, service: Service
) -> None:
    label = generated.models.SubmitLabels.from_dict({"generated": "stop"})
    body = generated.models.Submit(script="exec sleep 3600", labels=label)
    command_id = generated.submit.sync(client=client, body=body).id
    service.wait_for(str(command_id), "running")
    page = generated.list.sync(
        client=client, label=["generated=stop"], status=[generated.models.Status.RUNNING]
    )
    assert [item.id for item in page.items] == [command_id]
    stopping = generated.stop.sync(
        command_id, client=client, body=generated.models.Stop(grace_seconds=0)
    )
    assert stopping.id == command_id
    assert wait(generated, client, command_id).status == generated.models.Status.STOPPED
    problem = generated.stop.sync(command_id, client=client)
    assert isinstance(problem, generated.models.Problem)
    assert problem.type_ == "/problems/already-finished"


def test_open_operations_need_no_token(generated: SimpleNamespace, service: Service) -> None:
    with generated.client.Client(base_url=service.url) as anonymous:
        assert generated.health.sync(client=anonymous).status == "ok"


# TypeScript


def test_the_types_for_typescript_are_strict(document: Path) -> None:
    require("page")
    run(ROOT / "scripts" / "build-page")
    programs = WEB / "node_modules" / ".bin"
    directory = document.parent
    run(
        *(programs / "openapi-typescript", document, "--output", directory / "schema.ts"),
        "--default-non-nullable=false",
    )
    (directory / "consumer.ts").write_text(CONSUMER)
    run(
        *(programs / "tsc", "--strict", "--noEmit", "--exactOptionalPropertyTypes"),
        *("--noUncheckedIndexedAccess", "--target", "es2022", "--moduleResolution", "bundler"),
        *("--module", "esnext", directory / "consumer.ts"),
    )
