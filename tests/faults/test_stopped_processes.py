"""SIGSTOP of the server and of the keeper, and SIGTERM of the service, under load."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from support.oracle import (
    Script,
    Trial,
    endless,
    every_kind,
    late,
    parent,
    polite,
    printer,
    quick,
    stubborn,
    ticker,
)
from support.scripts import keeper_of
from support.service import Service, eventually, processes_with

MakeService = Callable[..., Service]

SERVER_SECONDS = 6
"""Longer than the keeper holds output for a silent server (2 s), and than any back-off (5 s)."""
KEEPER_SECONDS = 6
LONG_SERVER_SECONDS = 60
LONG_KEEPER_SECONDS = 10
SHUTDOWN_SECONDS = 3
LASTING = 7 + 2 * 2
"""How many scripts of the SIGTERM test do not end by themselves; further ones stay queued."""
MORE_THAN_THE_WINDOW = 400_000
"""Lines: 5 MB of each stream, while 8 MiB of both together may wait."""


def pass_seconds(seconds: float) -> None:
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, "the time to pass")


def busy(service: Service) -> Trial:
    """Start scripts that exit, print, time out and are stopped while a process is suspended."""
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    trial.note_descriptors()
    trial.submit_all([ticker(20, 0.1), stubborn(1), polite(), parent(), endless()])
    trial.submit_all([late(1.5), late(3)])
    eventually(trial.all_started, "all to begin")
    trial.submit(printer(MORE_THAN_THE_WINDOW))
    eventually(trial.stop_started, "all stops to be accepted")
    return trial


@pytest.mark.parametrize(
    "seconds", [SERVER_SECONDS, pytest.param(LONG_SERVER_SECONDS, marks=pytest.mark.long)]
)
def test_the_server_is_stopped_for_long(seconds: float, service: Service) -> None:
    trial = busy(service)
    server = service.server_pid
    os.kill(server, signal.SIGSTOP)
    trial.answer_seconds = 0.5
    trial.submit_all([quick(7), ticker(4)], retry=False)
    # The keeper does not wait for it: stops and time-outs happen, and scripts print to their end.
    eventually(lambda: not processes_with(trial.mark), "all to end")
    pass_seconds(seconds)
    os.kill(server, signal.SIGCONT)
    trial.answer_seconds = 10
    found = trial.verify()
    assert found["timed_out"] == 2
    assert found["stopped"] == 3
    assert service.server_pid == server


@pytest.mark.parametrize(
    "seconds", [KEEPER_SECONDS, pytest.param(LONG_KEEPER_SECONDS, marks=pytest.mark.long)]
)
def test_the_keeper_is_stopped(seconds: float, service: Service) -> None:
    trial = busy(service)
    server, keeper = service.server_pid, keeper_of(service)
    keeper.send_signal(signal.SIGSTOP)
    # The server still answers, and accepts commands that can run later.
    trial.submit_all([quick(7), ticker(4), stubborn()])
    refused = service.client.get("/readyz")
    assert refused.status_code == 503
    assert "the keeper does not answer" in refused.text
    trial.stop_started()
    pass_seconds(seconds)
    keeper.send_signal(signal.SIGCONT)
    trial.verify()
    assert service.server_pid == server


def test_sigterm_under_load(make_service: MakeService) -> None:
    """The shutdown takes bounded time and stores all ends; queued commands run after a restart."""
    flags = ("--shutdown-grace-seconds", str(SHUTDOWN_SECONDS), "--max-running", str(LASTING))
    service = make_service(*flags).start()
    trial = Trial(service)
    text = "exec seq -f 'line %07.0f' 99999999"
    prints = Script("printer", text, ("stopped", None), bounded=False)
    trial.submit_all([prints, stubborn(), stubborn(), polite(), late(3600), late(3600)])
    trial.submit(ticker(40_000))
    eventually(trial.all_started, "all to begin")
    trial.submit_all([*every_kind(), *every_kind(), printer(), quick(3)])
    # Scripts that ignore SIGTERM would never end by themselves.
    assert service.stop() == 0
    assert processes_with(trial.mark) == []
    left = {row.status for row in service.sql("SELECT DISTINCT status FROM commands")}
    assert "queued" in left
    assert not left & {"running", "stopping", "lost"}
    service.start()
    trial.verify(shut_down=True)
