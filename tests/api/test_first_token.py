"""An operator may give the first token to the very first start, instead of a random one."""

import contextlib
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx

from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service

TOKEN = "given-by-the-operator"
OTHER = "of-a-later-day-and-useless"


def answer(service: Service, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{service.url}/v1/commands"
    return httpx.get(url, headers=headers, timeout=PATIENCE_SECONDS, verify=False).status_code


@MAINLY_ON_SQLITE
def test_a_given_token_works_from_the_first_start_and_is_never_shown(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(environment={"SCRIPTSERVICE_TOKEN": TOKEN}).start()
    assert answer(service, TOKEN) == 200
    assert answer(service, "x" * 20) == 401
    # The command line finds it in the same file as a random one.
    assert service.token == TOKEN
    assert stat.S_IMODE((service.data_dir / "token").stat().st_mode) == 0o600
    assert_token_is_hidden(service)
    service.stop()
    service.environment = {"SCRIPTSERVICE_TOKEN": OTHER}
    service.start()
    assert answer(service, TOKEN) == 200
    assert answer(service, OTHER) == 401
    service.stop()
    assert TOKEN not in service.output()
    assert "admin token" not in service.output()
    assert OTHER not in service.output()


def assert_token_is_hidden(service: Service) -> None:
    """Assert that the token is in no environment and on no command line."""
    assert service.process is not None
    for pid in (service.process.pid, service.server_pid):
        for name in ("environ", "cmdline"):
            with contextlib.suppress(PermissionError):  # only root may look
                assert TOKEN.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    script = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; true"
    found = service.bytes_of(service.run(script)["id"])
    assert b"SCRIPTSERVICE_COMMAND_ID" in found
    assert TOKEN.encode() not in found
    if shutil.which("ps"):  # a bare machine has none
        words = subprocess.run(["ps", "axeww"], capture_output=True, check=True).stdout
        assert TOKEN.encode() not in words


@MAINLY_ON_SQLITE
def test_after_a_random_token_a_given_one_changes_nothing(
    make_service: Callable[..., Service],
) -> None:
    service = make_service().start()
    random = service.token
    assert random in service.output()
    service.stop()
    service.environment = {"SCRIPTSERVICE_TOKEN": TOKEN}
    service.start()
    assert service.token == random
    assert answer(service, random) == 200
    assert answer(service, TOKEN) == 401
