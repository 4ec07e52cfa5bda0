"""An older database is restored: nothing runs twice, even if the server dies while it starts."""

import shutil
from collections.abc import Callable
from pathlib import Path

from support.service import FINAL, ON_SQLITE, Service, eventually

pytestmark = ON_SQLITE

MakeService = Callable[..., Service]
QUEUED = 60


def database_files(service: Service) -> list[Path]:
    return sorted(service.data_dir.glob("scriptservice.db*"))


def all_final(service: Service) -> bool:
    items = service.client.get("/v1/commands", params={"limit": 1000}).json()["items"]
    return all(item["status"] in FINAL for item in items)


def test_nothing_runs_twice_though_the_server_dies_meanwhile(make_service: MakeService) -> None:
    service = make_service("--max-running", "0").start()
    ran = service.data_dir.parent / "ran"
    ran.touch()
    ran.chmod(0o666)
    commands = [
        # The first prints so much that the journal of its start is dropped.
        service.submit(
            f"echo {number} >>{ran}; head -c {6_000_000 if number == 0 else 1} /dev/zero"
        )
        for number in range(QUEUED)
    ]
    assert service.stop() == 0
    backup = service.data_dir.parent / "backup"
    backup.mkdir()
    for file in database_files(service):
        shutil.copy2(file, backup)
    service.flags = ()
    service.start()
    eventually(lambda: all_final(service), "all to run")
    assert service.stop() == 0
    for file in database_files(service):
        file.unlink()
    for file in backup.iterdir():
        shutil.copy2(file, service.data_dir)
    service.start(wait=False)
    for _ in range(4):
        service.kill_server()
    service.wait_until_healthy()
    eventually(lambda: all_final(service), "all to be final")
    # New commands run as usual; the restored ones do not block them.
    assert service.run("echo new")["status"] == "succeeded"
    assert sorted(map(int, ran.read_text().split())) == list(range(QUEUED))
    statuses = {service.get(command["id"])["status"] for command in commands[1:]}
    assert "queued" not in statuses
