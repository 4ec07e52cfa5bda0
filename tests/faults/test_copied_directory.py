"""A copy of the data directory is another service: it runs none of the original's commands."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.scripts import stop, unique_seconds
from support.service import ON_SQLITE, Service, eventually, new_directory, processes_with

pytestmark = ON_SQLITE

FLAGS = {"cgroup": (), "walk": ("--no-use-cgroups",)}


def copy_of(directory: Path) -> Path:
    target = new_directory() / "data"
    subprocess.run(["cp", "-a", str(directory), str(target)], check=True)
    return target


@pytest.fixture
def runs() -> Iterator[Path]:
    """A directory outside of all data directories, to which all scripts may write."""
    directory = new_directory()
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("mode", list(FLAGS))
def test_a_copy_made_while_scripts_run(
    make_service: Callable[..., Service], runs: Path, mode: str
) -> None:
    original = make_service(*FLAGS[mode], "--max-running", "1").start()
    mark = unique_seconds()
    script = f"echo $SCRIPTSERVICE_COMMAND_ID >> {runs}/runs"
    finished = original.run(script)["id"]
    running = original.submit(f"{script}; echo shown; setsid sleep {mark} & sleep {mark}")["id"]
    queued = original.submit(script)["id"]
    original.wait_for_output(running, b"shown")
    eventually(lambda: len(processes_with(mark)) == 2, "its tree")
    alive = {process.pid for process in processes_with(mark)}
    copy = make_service(*FLAGS[mode], data_dir=copy_of(original.data_dir)).start()
    for command in (running, queued):
        lost = copy.wait(command)
        assert lost["status"] == "lost"
        assert lost["reason"]
    assert copy.get(finished)["status"] == "succeeded"
    assert copy.bytes_of(running) == b"shown\n"
    assert copy.run("echo works")["status"] == "succeeded"
    copy.stop()
    # The original is not affected.
    assert {process.pid for process in processes_with(mark)} == alive
    assert original.get(running)["status"] == "running"
    assert original.get(queued)["status"] == "queued"
    assert stop(original, running, grace_seconds=0)["status"] == "stopped"
    assert original.wait(queued)["status"] == "succeeded"
    assert (runs / "runs").read_text().split() == [finished, running, queued]


def test_a_copy_made_after_a_stop(make_service: Callable[..., Service], runs: Path) -> None:
    original = make_service("--max-running", "1").start()
    script = f"echo $SCRIPTSERVICE_COMMAND_ID >> {runs}/runs"
    original.run(script)
    running = original.submit(f"{script}; echo ready; sleep 3600")["id"]
    queued = original.submit(script)["id"]
    original.wait_for_output(running, b"ready")
    assert original.stop() == 0
    copy = make_service(data_dir=copy_of(original.data_dir)).start()
    assert copy.wait(running)["status"] == "stopped"
    assert copy.wait(queued)["status"] == "lost"
    assert copy.run("echo works")["status"] == "succeeded"
    before = (runs / "runs").read_text()
    original.start()
    assert original.wait(queued)["status"] == "succeeded"
    assert (runs / "runs").read_text().split() == [*before.split(), queued]


def test_a_copy_of_a_directory_whose_keeper_was_killed(
    make_service: Callable[..., Service], runs: Path
) -> None:
    original = make_service().start()
    mark = unique_seconds()
    running = original.submit(f"echo run >> {runs}/runs; sleep {mark}")["id"]
    eventually(lambda: processes_with(mark), "its process")
    original.kill_keeper()
    copy = make_service(data_dir=copy_of(original.data_dir)).start()
    assert copy.wait(running)["status"] == "lost"
    original.start()
    assert original.wait(running)["status"] == "lost"
    assert processes_with(mark) == []
    assert (runs / "runs").read_text() == "run\n"


def test_an_older_database_put_back_runs_nothing_again(
    make_service: Callable[..., Service],
) -> None:
    service = make_service("--max-running", "1").start()
    script = "echo $SCRIPTSERVICE_COMMAND_ID >> runs"
    blocker = service.submit("sleep 3600")["id"]
    service.wait_for(blocker, "running")
    queued = service.submit(script)["id"]
    service.stop()
    saved = copy_of(service.data_dir)
    service.start()
    assert service.wait(queued)["status"] == "succeeded"
    service.stop()
    for path in service.data_dir.glob("scriptservice.db*"):
        path.unlink()
    for path in saved.glob("scriptservice.db*"):
        subprocess.run(["cp", "-a", str(path), str(service.data_dir)], check=True)
    shutil.rmtree(saved.parent)
    service.start()
    assert service.wait(queued)["status"] in {"lost", "succeeded"}
    assert (service.data_dir / "work" / "runs").read_text().split() == [queued]
