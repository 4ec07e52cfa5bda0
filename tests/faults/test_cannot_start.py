"""Scripts that cannot be started: for now, and then they wait; or ever, and then it is said why."""

import random
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scriptservice.protocol.fault_points import VARIABLE, arm, pending
from support.mounts import OWN_MOUNT_NAMESPACE, hide, show
from support.oracle import Script, Trial, every_kind, impossible, numbered, quick
from support.scripts import keeper_of, stop, unique_seconds
from support.service import Service, eventually, new_directory, processes_with

BASH = Path("/bin/bash")


@pytest.fixture(scope="module")
def database_kind() -> str:
    """The keeper knows no database."""
    return "sqlite"


@pytest.fixture(scope="module")
def faults() -> Path:
    """Where is said what is to happen."""
    return new_directory()


@pytest.fixture(scope="module")
def user() -> int:
    """Whose processes are counted: nobody else's scripts are his."""
    return random.randrange(200_000, 300_000)


@pytest.fixture(scope="module")
def hurt(faults: Path, user: int) -> Iterator[Service]:
    """A service with mounts of its own, and fault points."""
    environment = {VARIABLE: str(faults)}
    service = Service(
        None, "--run-as", str(user), environment=environment, under=OWN_MOUNT_NAMESPACE
    )
    try:
        yield service.start()
    finally:
        service.close()


@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM", "EMFILE", "ENFILE"])
def test_what_fails_for_want_of_something_waits_and_runs_once(
    hurt: Service, faults: Path, error: str
) -> None:
    trial = Trial.on_idle_service(hurt)
    arm(str(faults), "spawn.process", f"fail {error} 2")
    trial.submit_all(every_kind())
    trial.verify()
    assert not pending(str(faults), "spawn.process")


def test_the_kernel_gives_its_user_no_more_processes(hurt: Service) -> None:
    """Really: what the user's limit refuses is refused by exec, after the fork."""
    trial = Trial.on_idle_service(hurt)
    keeper = keeper_of(hurt).pid
    mark = unique_seconds()
    taken = [hurt.submit(f"exec sleep {mark}")["id"] for _ in range(3)]
    eventually(lambda: len(processes_with(mark)) == 3, "them to run")
    before = resource.prlimit(keeper, resource.RLIMIT_NPROC)
    resource.prlimit(keeper, resource.RLIMIT_NPROC, (2, before[1]))
    try:
        trial.submit_all(every_kind())
        waiting = [sent for sent in trial.sent[1:] if sent.script.runs]
        eventually(
            lambda: hurt.output().count("command_not_started") > len(waiting), "all to be tried"
        )
        assert {hurt.get(str(sent.id))["status"] for sent in waiting} == {"queued"}
    finally:
        resource.prlimit(keeper, resource.RLIMIT_NPROC, before)
    for command in taken:
        assert stop(hurt, command)["status"] == "stopped"
    trial.verify()


def interpreters(directory: Path) -> dict[str, str]:
    """Return interpreters that can never work, and what is said of them."""
    garbage, plain, script = (directory / name for name in ("garbage", "plain", "script"))
    garbage.write_bytes(b"\x7fELF and no more")
    garbage.chmod(0o755)
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o644)
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    return {
        "/no/such/interpreter": "No such file or directory",
        str(directory): "Permission denied",
        str(plain): "Permission denied",
        f"{plain}/below": "Not a directory",
        str(garbage): "Exec format error",
        str(script): "No such file or directory",
        "x" * 5000: "File name too long",
    }


def test_what_is_no_interpreter_is_named(hurt: Service) -> None:
    trial = Trial.on_idle_service(hurt)
    expected = interpreters(hurt.data_dir.parent)
    for path in expected:
        trial.submit(replace(impossible(), fields={"interpreter": [path]}))
    trial.verify()
    for sent, (path, why) in zip(trial.sent[1:], expected.items(), strict=True):
        assert hurt.get(str(sent.id))["reason"] == f"cannot run {path}: {why}"


def patient() -> Script:
    """Prints, waits for a file, prints; and needs no other program for that."""
    text = """exec 9<> <(:); echo line 0000001
        until [ -e "$RUNS.go" ]; do read -t 0.05 -u 9; done; echo line 0000002; exit 3"""
    return Script("patient", text, ("failed", 3), stdout=numbered(1, 2))


def test_bash_is_away_for_a_while(hurt: Service) -> None:
    trial = Trial.on_idle_service(hurt)
    running = [trial.submit(patient()) for _ in range(3)]
    for sent in running:
        hurt.wait_for_output(str(sent.id), b"line 0000001")
    empty = hurt.data_dir.parent / "empty"
    empty.mkdir()
    place = BASH.resolve().parent
    hide(keeper_of(hurt), place, empty)
    try:
        for _ in range(5):
            trial.submit(
                replace(quick(), ends=("failed", None), runs=False, stdout=b"", stderr=b"")
            )
        for sent in trial.sent[-5:]:
            assert "cannot run /bin/bash: No such file" in hurt.wait(str(sent.id))["reason"]
        assert {hurt.get(str(sent.id))["status"] for sent in running} == {"running"}
    finally:
        show(keeper_of(hurt), place)
    Path(f"{trial.runs}.go").touch(mode=0o666)
    trial.submit_all(every_kind())
    trial.verify()
