"""A SQLite file that is damaged, truncated, lost or older: it is reported and nothing runs twice.

One service goes through all these tests. The service never replaces a damaged file: the server
reports it, and scripts continue until somebody restores an intact file.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.oracle import Trial, late, polite, quick, stubborn, ticker
from support.scripts import keeper_of
from support.service import PATIENCE_SECONDS, Service, eventually, new_directory
from support.upgrades import servers

MAX_RUNNING_FLAGS = ("--max-running", "4")


@pytest.fixture(scope="module")
def target() -> Iterator[Service]:
    service = Service(None, *MAX_RUNNING_FLAGS)
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture
def aside() -> Iterator[Path]:
    """A directory for copies."""
    directory = new_directory()
    yield directory
    shutil.rmtree(directory)


def files_of(service: Service) -> list[Path]:
    return sorted(service.data_dir.glob("scriptservice.db*"))


def copy_to(directory: Path, service: Service) -> None:
    for file in files_of(service):
        shutil.copy2(file, directory)


def put_back(directory: Path, service: Service) -> None:
    lose(service)
    for file in directory.iterdir():
        shutil.copy2(file, service.data_dir)


def lose(service: Service) -> None:
    for file in files_of(service):
        file.unlink()


@contextmanager
def without_server(service: Service) -> Iterator[None]:
    """Run the ``with`` block between the death of a server and the start of the next one."""
    keeper = keeper_of(service)
    keeper.send_signal(signal.SIGSTOP)
    eventually(lambda: keeper.status() == psutil.STATUS_STOPPED, "the keeper to stand still")
    # The keeper neither reaps nor starts a server now: a server is a zombie, or there is none.
    for pid in servers(service):
        server = psutil.Process(pid)
        server.kill()
        eventually(lambda: server.status() == psutil.STATUS_ZOMBIE, "its end")  # noqa: B023
    yield
    keeper.send_signal(signal.SIGCONT)
    service.close_client()


def overwrite_the_header(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(os.urandom(100))


def overwrite_pages(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        for page in range(4096, size, 2 * 4096):
            opened.seek(page)
            opened.write(os.urandom(4096))


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [overwrite_the_header, overwrite_pages, cut_in_half])
def test_a_damaged_file_is_reported_and_an_intact_one_continues(
    damage: Callable[[Path], None], target: Service, aside: Path
) -> None:
    trial = Trial(target)
    trial.submit_all([ticker(30, 0.1), late(2), stubborn(), polite(), quick(), quick(7)])
    eventually(lambda: target.client.get("/v1/commands?status=running").json()["items"], "any")
    said = len(target.output())
    file = target.data_dir / "scriptservice.db"
    with without_server(target):
        copy_to(aside, target)
        for log in files_of(target)[1:]:
            log.unlink()
        damage(file)
        damaged = file.read_bytes()
    eventually(lambda: "cannot open database" in target.output()[said:], "it to be reported")
    assert "server_cannot_start" in target.output()[said:]
    with without_server(target):
        assert file.read_bytes() == damaged
        put_back(aside, target)
    target.wait_until_healthy()
    trial.verify()


def test_it_does_not_start_on_a_damaged_file(target: Service, aside: Path) -> None:
    assert target.stop() == 0
    copy_to(aside, target)
    overwrite_the_header(target.data_dir / "scriptservice.db")
    said = len(target.output())
    target.start(wait=False)
    assert target.process is not None
    assert target.process.wait(PATIENCE_SECONDS) == 1
    assert "cannot open database" in target.output()[said:]
    assert "file is not a database" in target.output()[said:]
    put_back(aside, target)
    target.start()


def lose_the_log(service: Service, _: Path) -> None:
    for file in files_of(service)[1:]:
        file.unlink()


def cut_the_log(service: Service, _: Path) -> None:
    cut_in_half(service.data_dir / "scriptservice.db-wal")


def put_an_older_one_there(service: Service, older: Path) -> None:
    put_back(older, service)


def lose_all(service: Service, _: Path) -> None:
    lose(service)


@pytest.mark.parametrize(
    ("harm", "keeper_dies"),
    [
        (lose_the_log, True),
        (cut_the_log, True),
        (put_an_older_one_there, False),
        (put_an_older_one_there, True),
        (lose_all, False),
    ],
)
def test_commands_that_the_database_forgot_do_not_run_again(
    harm: Callable[[Service, Path], None], keeper_dies: bool, target: Service, aside: Path
) -> None:
    trial = Trial(target)
    # No script that has to be stopped: one that the database has forgotten runs to its end.
    trial.submit_all([ticker(8), quick(), quick(7), quick(), late(1), quick(), quick()])
    with without_server(target):
        copy_to(aside, target)
    trial.submit_all([quick(), quick(), ticker(8), late(1)])
    eventually(lambda: trial.runs.exists() and len(trial.runs.read_text().split()) > 5, "runs")
    if keeper_dies:
        target.kill_both()
        harm(target, aside)
        target.start()
    else:
        with without_server(target):
            harm(target, aside)
        target.wait_until_healthy()
    query = {"status": ["queued", "running", "stopping"], "limit": 1000}

    def all_final() -> bool:
        target.close_client()  # a lost database has another token
        answer = target.client.get("/v1/commands", params=query)
        return answer.status_code == 200 and not answer.json()["items"]

    eventually(all_final, "all that is known to be final")
    new = Trial(target)
    new.submit_all([quick(), ticker(3), stubborn()])
    new.verify()
    ran = trial.runs.read_text().split()
    assert len(ran) == len(set(ran))
