"""A SQLite file that is damaged, cut, lost, older or another's: nothing runs twice, and it is told.

One service lives through all of it. A file that is no sound database is never replaced unasked:
the server says so, and what runs goes on until somebody puts a sound one there.
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

FEW_AT_ONCE = ("--max-running", "4")


@pytest.fixture(scope="module")
def hurt() -> Iterator[Service]:
    service = Service(None, *FEW_AT_ONCE)
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
    """Between the death of a server and the start of the next; scripts go on."""
    keeper = keeper_of(service)
    keeper.send_signal(signal.SIGSTOP)
    eventually(lambda: keeper.status() == psutil.STATUS_STOPPED, "the keeper to stand still")
    # It neither reaps nor starts any from now on: one is a zombie then, or there is none just now.
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
def test_a_damaged_file_is_told_and_a_sound_one_goes_on(
    damage: Callable[[Path], None], hurt: Service, aside: Path
) -> None:
    trial = Trial(hurt)
    trial.submit_all([ticker(30, 0.1), late(2), stubborn(), polite(), quick(), quick(7)])
    eventually(lambda: hurt.client.get("/v1/commands?status=running").json()["items"], "any")
    said = len(hurt.output())
    file = hurt.data_dir / "scriptservice.db"
    with without_server(hurt):
        copy_to(aside, hurt)
        for log in files_of(hurt)[1:]:
            log.unlink()
        damage(file)
        damaged = file.read_bytes()
    eventually(lambda: "cannot open database" in hurt.output()[said:], "it to be told")
    assert "server_cannot_start" in hurt.output()[said:]
    with without_server(hurt):
        assert file.read_bytes() == damaged
        put_back(aside, hurt)
    hurt.wait_until_healthy()
    trial.verify()


def test_it_does_not_start_on_a_damaged_file(hurt: Service, aside: Path) -> None:
    assert hurt.stop() == 0
    copy_to(aside, hurt)
    overwrite_the_header(hurt.data_dir / "scriptservice.db")
    said = len(hurt.output())
    hurt.start(wait=False)
    assert hurt.process is not None
    assert hurt.process.wait(PATIENCE_SECONDS) == 1
    assert "cannot open database" in hurt.output()[said:]
    assert "file is not a database" in hurt.output()[said:]
    put_back(aside, hurt)
    hurt.start()


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
def test_what_is_forgotten_runs_no_second_time(
    harm: Callable[[Service, Path], None], keeper_dies: bool, hurt: Service, aside: Path
) -> None:
    trial = Trial(hurt)
    # None that has to be stopped: one that its database has forgotten runs to its end.
    trial.submit_all([ticker(8), quick(), quick(7), quick(), late(1), quick(), quick()])
    with without_server(hurt):
        copy_to(aside, hurt)
    trial.submit_all([quick(), quick(), ticker(8), late(1)])
    eventually(lambda: trial.runs.exists() and len(trial.runs.read_text().split()) > 5, "runs")
    if keeper_dies:
        hurt.kill_both()
        harm(hurt, aside)
        hurt.start()
    else:
        with without_server(hurt):
            harm(hurt, aside)
        hurt.wait_until_healthy()
    query = {"status": ["queued", "running", "stopping"], "limit": 1000}

    def all_final() -> bool:
        hurt.close_client()  # a lost database has another token
        answer = hurt.client.get("/v1/commands", params=query)
        return answer.status_code == 200 and not answer.json()["items"]

    eventually(all_final, "all that is known to be final")
    new = Trial(hurt)
    new.submit_all([quick(), ticker(3), stubborn()])
    new.verify()
    ran = trial.runs.read_text().split()
    assert len(ran) == len(set(ran))
