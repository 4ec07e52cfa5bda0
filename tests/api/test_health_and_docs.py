"""Hosts, health and readiness, and the description of the API as an OpenAPI document."""

import json
import os
import re
import signal
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest

from scriptservice import __version__
from support.service import MAINLY_ON_SQLITE, Service, eventually

from .test_submit import KEYS

ROUTES = {
    "/v1/commands": {"get", "post"},
    "/v1/commands/{command_id}": {"get", "delete"},
    "/v1/commands/{command_id}/stop": {"post"},
    "/v1/commands/{command_id}/rerun": {"post"},
    "/v1/commands/{command_id}/stdin": {"post"},
    "/v1/commands/{command_id}/signal": {"post"},
    "/v1/commands/{command_id}/output": {"get"},
    "/v1/commands/{command_id}/events": {"get"},
    "/v1/hosts": {"get"},
    "/v1/session": {"get", "post", "delete"},
    "/metrics": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/openapi.json": {"get"},
    "/docs": {"get"},
    "/": {"get"},
}


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    response = service.client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    return dict(response.json())


# Hosts


def test_hosts_have_the_fields_of_the_contract(service: Service) -> None:
    running = service.submit("exec sleep 3600")
    service.wait_for(running["id"], "running")
    answer = service.client.get("/v1/hosts").json()
    assert list(answer) == ["items"]
    (host,) = answer["items"]
    assert service.process is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", host["last_seen_at"])
    seen = datetime.fromisoformat(host["last_seen_at"])
    assert abs((datetime.now(UTC) - seen).total_seconds()) < 60
    assert host == {
        "name": os.uname().nodename,
        "status": "up",
        "pool": "default",
        "labels": {},
        "running": 1,
        "capacity": None,
        "last_seen_at": host["last_seen_at"],
        "version": __version__,
        "keeper_pid": service.process.pid,
        "child_pid": service.server_pid,
    }
    assert psutil.Process(host["child_pid"]).ppid() == host["keeper_pid"]
    service.client.post(f"/v1/commands/{running['id']}/stop", json={"grace_seconds": 0})
    service.wait(running["id"])
    eventually(
        lambda: service.client.get("/v1/hosts").json()["items"][0]["running"] == 0, "none to run"
    )


@MAINLY_ON_SQLITE
def test_the_name_of_the_host_can_be_chosen(make_service: Any) -> None:
    service = make_service("--host-name", "älpha", "--max-running", "7").start()
    (host,) = service.client.get("/v1/hosts").json()["items"]
    assert (host["name"], host["capacity"]) == ("älpha", 7)
    assert service.run("true", host="älpha")["host"] == "älpha"


# Health


def test_health(service: Service) -> None:
    response = service.client.get("/healthz")
    assert response.json() == {"status": "ok"}
    assert response.headers["content-type"] == "application/json"


def test_readiness_reports_tree_kill_and_degraded_parts(service: Service) -> None:
    response = service.client.get("/readyz")
    assert response.status_code == 200
    answer = response.json()
    assert answer["tree_kill"] in ("cgroup", "walk")
    assert answer["spawn"] in ("launcher", "fork")
    assert {**answer, "tree_kill": "", "spawn": ""} == {
        "status": "ready",
        "store": "ok",
        "keeper": "ok",
        "tree_kill": "",
        "spawn": "",
        "degraded": [],
        "unkillable": [],
    }


def test_the_service_is_up_but_not_ready_while_its_keeper_hangs(service: Service) -> None:
    assert service.process is not None
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        response = service.client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["type"] == "/problems/store-unavailable"
        assert "keeper" in response.json()["detail"]
        assert int(response.headers["retry-after"]) >= 1
        assert service.client.get("/healthz").status_code == 200
    finally:
        os.kill(service.process.pid, signal.SIGCONT)
    eventually(lambda: service.client.get("/readyz").status_code == 200, "it to be ready again")


# OpenAPI


def test_the_document_is_openapi_3_1_and_names_every_route(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == __version__
    assert {path: set(item) for path, item in document["paths"].items()} == ROUTES


def test_every_reference_in_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for reference in set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', text)):
        assert reference in document["components"]["schemas"]
    operations = [item for path in document["paths"].values() for item in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert names == [
        "submitCommand", "listCommands", "getCommand", "deleteCommand", "stopCommand",
        "rerunCommand", "sendInput", "signalCommand", "getOutput", "followEvents", "listHosts",
        "getHealth", "getReadiness", "getOpenapi", "getDocs", "getMetrics", "signIn", "getSession",
        "signOut", "getPage",
    ]  # fmt: skip
    tags = [tag["name"] for tag in document["tags"]]
    assert {tag for operation in operations for tag in operation["tags"]} == set(tags)
    assert tags[0] == "commands"
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_the_document_says_what_needs_a_token(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            secured = operation["security"] == [{"token": []}, {"session": []}]
            signs_in = (method, path) == ("post", "/v1/session")
            assert secured == (path.startswith(("/v1/", "/metrics")) and not signs_in)
            assert secured or operation["security"] == []
            assert ("401" in operation["responses"]) == (secured or signs_in)


def test_the_document_knows_the_fields_of_the_contract(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["Command"]["properties"]) == set(KEYS)
    assert set(schemas["Command"]["required"]) == set(KEYS)
    item = (set(KEYS) - {"script", "args", "env"}) | {"script_preview"}
    assert set(schemas["CommandItem"]["properties"]) == item
    assert schemas["SubmitBody"]["required"] == ["script"]
    assert schemas["SubmitBody"]["additionalProperties"] is False
    submit = document["paths"]["/v1/commands"]["post"]
    assert set(submit["requestBody"]["content"]) == {
        "application/json",
        "text/plain",
        "text/x-shellscript",
    }
    output = document["paths"]["/v1/commands/{command_id}/output"]["get"]
    assert set(output["responses"]) >= {"200", "206", "404", "416", "422"}
    parameters = {parameter["name"] for parameter in output["parameters"]}
    assert parameters == {
        "command_id", "stream", "offset", "limit", "tail", "follow", "Range",
    }  # fmt: skip
    listing = document["paths"]["/v1/commands"]["get"]
    assert {parameter["name"] for parameter in listing["parameters"]} == {
        "status", "label", "q", "host", "id", "created_after", "created_before", "limit",
        "cursor",
    }  # fmt: skip


def test_a_script_as_the_body_has_parameters_without_defaults(document: dict[str, Any]) -> None:
    # Generated clients send defaults, and the service refuses such parameters with a JSON body.
    parameters = document["paths"]["/v1/commands"]["post"]["parameters"]
    assert len(parameters) > 15
    assert [each["name"] for each in parameters if "default" in each["schema"]] == []


def test_output_has_its_media_types(document: dict[str, Any]) -> None:
    responses = document["paths"]["/v1/commands/{command_id}/output"]["get"]["responses"]
    for status in ("200", "206"):
        assert list(responses[status]["content"]) == ["application/octet-stream", "text/plain"]
    events = document["paths"]["/v1/commands/{command_id}/events"]["get"]["responses"]["200"]
    assert list(events["content"]) == ["text/event-stream"]


def test_every_operation_has_an_example(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            contents = [operation.get("requestBody", {}).get("content", {})] + [
                response.get("content", {})
                for status, response in operation["responses"].items()
                if status in ("200", "201", "202")
            ]
            for content in contents:
                shown = [each for each in content.values() if each.keys() & {"example", "examples"}]
                assert shown or not content, (method, path)
