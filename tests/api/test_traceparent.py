"""The ``traceparent`` header of a submit reaches the script."""

import pytest

from support.service import MAINLY_ON_SQLITE, Service

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PRINT = "echo ${TRACEPARENT-none}"


def printed(service: Service, headers: dict[str, str], path: str = "", **body: object) -> str:
    response = service.client.post(
        f"/v1/commands{path}",
        json={"script": PRINT, **body} if not path else None,
        headers=headers,
    )
    assert response.status_code == 201, response.text
    command = service.wait(response.json()["id"])
    return service.bytes_of(command["id"]).decode().strip()


def test_traceparent_reaches_the_script(service: Service) -> None:
    assert printed(service, {"traceparent": TRACE}) == TRACE
    assert printed(service, {"Traceparent": TRACE}) == TRACE
    assert printed(service, {}) == "none"


def test_traceparent_of_a_raw_submit_reaches_the_script(service: Service) -> None:
    response = service.client.post(
        "/v1/commands",
        content=PRINT,
        headers={"Content-Type": "text/plain", "traceparent": TRACE},
        params={"wait": 60},
    )
    assert service.bytes_of(response.json()["id"]).decode().strip() == TRACE


def test_a_traceparent_of_a_later_version_is_unchanged(service: Service) -> None:
    later = "cc" + TRACE[2:] + "-what-the-future-brings"
    assert printed(service, {"traceparent": later}) == later


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        TRACE.upper(),
        "ff" + TRACE[2:],
        TRACE + "-more",
        TRACE[:-1],
        "00-" + "0" * 32 + TRACE[35:],
        TRACE[:36] + "0" * 16 + TRACE[52:],
        "cc" + TRACE[2:] + "x",
        "cc" + TRACE[2:] + "-" + "x" * 300,
    ],
)
def test_an_invalid_traceparent_is_ignored(service: Service, wrong: str) -> None:
    assert printed(service, {"traceparent": wrong}) == "none"


def test_several_traceparent_headers_are_ignored(service: Service) -> None:
    response = service.client.post(
        "/v1/commands",
        json={"script": PRINT},
        headers=[("traceparent", TRACE), ("traceparent", TRACE)],
        params={"wait": 60},
    )
    assert service.bytes_of(response.json()["id"]).decode().strip() == "none"


def test_the_env_field_overrides_the_header(service: Service) -> None:
    assert printed(service, {"traceparent": TRACE}, env={"TRACEPARENT": "mine"}) == "mine"


def test_a_rerun_belongs_to_the_trace_of_its_own_request(service: Service) -> None:
    first = service.client.post(
        "/v1/commands", json={"script": PRINT}, headers={"traceparent": TRACE}
    ).json()["id"]
    service.wait(first)
    other = TRACE.replace("b7ad", "c8be")
    assert printed(service, {"traceparent": other}, f"/{first}/rerun") == other
    assert printed(service, {}, f"/{first}/rerun") == "none"


@MAINLY_ON_SQLITE
def test_traceparent_of_a_queued_command_survives_a_restart(make_service) -> None:
    service = make_service("--max-running", "0").start()
    command = service.client.post(
        "/v1/commands", json={"script": PRINT}, headers={"traceparent": TRACE}
    ).json()["id"]
    assert service.stop() == 0
    service.flags = ()
    service.start()
    service.wait(command)
    assert service.bytes_of(command).decode().strip() == TRACE
