"""Scripts that cannot be started: they wait if that may change, else they fail with a reason."""

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
    """The kind of database: starting scripts does not depend on it."""
    return "sqlite"


@pytest.fixture(scope="module")
def faults() -> Path:
    """The directory in which fault points are armed."""
    return new_directory()


@pytest.fixture(scope="module")
def user() -> int:
    """The user of the scripts; no other service uses it, so its processes can be counted."""
    return random.randrange(200_000, 300_000)


@pytest.fixture(scope="module")
def target(faults: Path, user: int) -> Iterator[Service]:
    """A service in a mount namespace of its own, with fault points."""
    environment = {VARIABLE: str(faults)}
    service = Service(
        None, "--run-as", str(user), environment=environment, under=OWN_MOUNT_NAMESPACE
    )
    try:
        yield service.start()
    finally:
        service.close()


@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM", "EMFILE", "ENFILE"])
def test_a_spawn_that_lacks_resources_is_retried_and_runs_once(
    target: Service, faults: Path, error: str
) -> None:
    trial = Trial.on_idle_service(target)
    arm(str(faults), "spawn.process", f"fail {error} 2")
    trial.submit_all(every_kind())
    trial.verify()
    assert not pending(str(faults), "spawn.process")


def test_scripts_wait_while_their_user_may_start_no_process(target: Service) -> None:
    """The kernel enforces the user's limit at exec, after the fork."""
    trial = Trial.on_idle_service(target)
    keeper = keeper_of(target).pid
    mark = unique_seconds()
    taken = [target.submit(f"exec sleep {mark}")["id"] for _ in range(3)]
    eventually(lambda: len(processes_with(mark)) == 3, "them to run")
    before = resource.prlimit(keeper, resource.RLIMIT_NPROC)
    resource.prlimit(keeper, resource.RLIMIT_NPROC, (2, before[1]))
    try:
        trial.submit_all(every_kind())
        waiting = [sent for sent in trial.sent[1:] if sent.script.runs]
        eventually(
            lambda: target.output().count("command_not_started") > len(waiting), "all to be tried"
        )
        assert {target.get(str(sent.id))["status"] for sent in waiting} == {"queued"}
    finally:
        resource.prlimit(keeper, resource.RLIMIT_NPROC, before)
    # The processes that run are stopped last: a process that began to start before the limit was
    # raised again has the low limit, and must not become a script.
    trial.settle()
    for command in taken:
        assert stop(target, command)["status"] == "stopped"
    trial.verify()


def interpreters(directory: Path) -> dict[str, str]:
    """Return interpreters that can never work, and the reason that each gives."""
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


def test_an_unusable_interpreter_is_named(target: Service) -> None:
    trial = Trial.on_idle_service(target)
    expected = interpreters(target.data_dir.parent)
    for path in expected:
        trial.submit(replace(impossible(), fields={"interpreter": [path]}))
    trial.verify()
    for sent, (path, why) in zip(trial.sent[1:], expected.items(), strict=True):
        assert target.get(str(sent.id))["reason"] == f"cannot run {path}: {why}"


def patient() -> Script:
    """Prints, waits for a file and prints again, without starting another program."""
    text = """exec 9<> <(:); echo line 0000001
        until [ -e "$RUNS.go" ]; do read -t 0.05 -u 9; done; echo line 0000002; exit 3"""
    return Script("patient", text, ("failed", 3), stdout=numbered(1, 2))


def test_bash_is_missing_for_a_while(target: Service) -> None:
    trial = Trial.on_idle_service(target)
    running = [trial.submit(patient()) for _ in range(3)]
    for sent in running:
        target.wait_for_output(str(sent.id), b"line 0000001")
    empty = target.data_dir.parent / "empty"
    empty.mkdir()
    place = BASH.resolve().parent
    hide(keeper_of(target), place, empty)
    try:
        for _ in range(5):
            trial.submit(
                replace(quick(), ends=("failed", None), runs=False, stdout=b"", stderr=b"")
            )
        for sent in trial.sent[-5:]:
            assert "cannot run /bin/bash: No such file" in target.wait(str(sent.id))["reason"]
        assert {target.get(str(sent.id))["status"] for sent in running} == {"running"}
    finally:
        show(keeper_of(target), place)
    Path(f"{trial.runs}.go").touch(mode=0o666)
    trial.submit_all(every_kind())
    trial.verify()
