"""The life of commands in a real service, in any order of requests, with a model of what may be.

The rules act through the project's own client. The model knows of each command what a client may
observe from now on. Each look at a command is compared with it, and at the end of an example all
commands are looked at.
"""

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from scriptservice import Client, Command
from scriptservice.client.problems import (
    AlreadyFinishedError,
    NotFinishedError,
    NotFoundError,
)
from scriptservice.model import TRANSITIONS, Status
from support.gates import Gate
from support.service import Service, eventually, processes_with

STEPS = 12
SCRIPTS = {
    "quick": "echo out; echo err >&2; exit 3",
    "waits": "echo up; {gate}; echo opened",
    "resists": "trap '' TERM; echo up; {gate}; echo opened",
    "daemon": "setsid sleep 3600 & echo up; {gate}",
}
"""Scripts by kind. Each first appends a line to a file with the command's id in its name, so that a
second run would show."""

OUTPUTS = {
    "quick": (b"out\n", b"err\n"),
    "waits": (b"up\nopened\n", b""),
    "resists": (b"up\nopened\n", b""),
    "daemon": (b"up\n", b""),
}
"""Of each kind the complete output of stdout and of stderr."""


def _reachable() -> dict[Status, frozenset[Status]]:
    """Return the statuses that may be observed after each status, by any number of steps."""
    found = {status: {status} for status in Status}
    for _ in Status:
        for statuses in found.values():
            for status in list(statuses):
                statuses.update(TRANSITIONS[status])
    return {status: frozenset(statuses) for status, statuses in found.items()}


REACHABLE = _reachable()


@dataclass
class KnownCommand:
    """What is known of a command.

    Attributes:
        id: its id.
        kind: one of `SCRIPTS`.
        gate: the gate at which its script waits, unless it is quick.
        rerun_of: the command that it repeats.
        status: the status that was observed last.
        final: the whole answer when it was final.
        output: the bytes that were observed so far, by stream.
        is_deleted: whether it was deleted.
        stop_accepted: whether a stop was accepted.
    """

    id: str
    kind: str
    gate: Gate
    rerun_of: str | None = None
    status: Status = Status.QUEUED
    final: dict[str, Any] | None = None
    output: dict[str, bytes] = field(default_factory=lambda: defaultdict(bytes))
    is_deleted: bool = False
    stop_accepted: bool = False


class LivesOverHttp(RuleBasedStateMachine):
    """Commands and the service that has them.

    Attributes:
        service: the service of all examples.
        runs: a directory in which every script can make files.
    """

    service: ClassVar[Service]
    runs: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.client = Client(self.service.url, self.service.token)
        self.gate = Gate(self.service)
        self.commands: list[KnownCommand] = []
        self.closed_gates = {id(self.gate)}
        self.was_killed = False

    def _script(self, kind: str) -> str:
        ran = f'echo ran >> "{self.runs}/$SCRIPTSERVICE_COMMAND_ID"; '
        return ran + SCRIPTS[kind].format(gate=self.gate.wait)

    def _pick(self, at: int) -> KnownCommand:
        return self.commands[at % len(self.commands)]

    def _open(self) -> None:
        self.closed_gates.discard(id(self.gate))
        self.gate.open()

    def _is_held(self, known: KnownCommand) -> bool:
        """Return whether nothing that has happened can end a command."""
        has_gate = known.kind != "quick"
        return has_gate and id(known.gate) in self.closed_gates and not known.stop_accepted

    # Rules

    @rule(kind=st.sampled_from(sorted(SCRIPTS)))
    def submit(self, kind: str) -> None:
        command = self.client.submit(self._script(kind), grace_seconds=0.05, leftover_seconds=0)
        self.commands.append(KnownCommand(command.id, kind, self.gate))
        self._observe(self.commands[-1], command)

    @precondition(lambda self: self.commands)
    @rule(at=st.integers(0, 20), grace=st.sampled_from([None, 0.0]))
    def stop(self, at: int, grace: float | None) -> None:
        known = self._pick(at)
        try:
            command = self.client.stop(known.id, grace_seconds=grace)
        except AlreadyFinishedError:
            assert not known.is_deleted
            self._look(known)
            assert known.final is not None
        except NotFoundError:
            assert known.is_deleted
        else:
            known.stop_accepted = True
            assert known.final is None
            self._observe(known, command)

    @rule()
    def open_the_gate(self) -> None:
        self._open()
        self.gate = Gate(self.service)
        self.closed_gates.add(id(self.gate))

    @precondition(lambda self: self.commands)
    @rule(at=st.integers(0, 20))
    def wait(self, at: int) -> None:
        """Wait for the end of a command that ends by itself or is being stopped."""
        known = self._pick(at)
        if known.is_deleted or not (known.kind == "quick" or known.stop_accepted):
            return
        self._observe(known, self.client.wait(known.id))
        assert known.final is not None

    @precondition(lambda self: self.commands)
    @rule(at=st.integers(0, 20))
    def rerun(self, at: int) -> None:
        known = self._pick(at)
        try:
            command = self.client.rerun(known.id)
        except NotFoundError:
            assert known.is_deleted
            return
        assert not known.is_deleted
        assert command.rerun_of == known.id
        assert command.id not in [each.id for each in self.commands]
        self.commands.append(KnownCommand(command.id, known.kind, known.gate, known.id))
        self._observe(self.commands[-1], command)

    @precondition(lambda self: self.commands)
    @rule(at=st.integers(0, 20))
    def prune(self, at: int) -> None:
        known = self._pick(at)
        try:
            self.client.delete(known.id)
        except NotFinishedError:
            assert known.final is None
        except NotFoundError:
            assert known.is_deleted
        else:
            assert not self._is_held(known), "an unfinished command was deleted"
            known.is_deleted = True

    @precondition(lambda self: self.commands)
    @rule(at=st.integers(0, 20))
    def look(self, at: int) -> None:
        self._look(self._pick(at))

    # At most once in an example: the keeper starts a server later and later that dies again and
    # again, so more kills would only make the test slow.
    @precondition(lambda self: self.commands and not self.was_killed)
    @rule()
    def kill_the_server(self) -> None:
        self.was_killed = True
        self.service.kill_server()

    # What may be observed

    def _look(self, known: KnownCommand) -> None:
        try:
            command = self.client.get(known.id)
            out, err = (self.client.output(known.id, stream=name) for name in ("stdout", "stderr"))
            merged = self.client.output(known.id)
        except NotFoundError:
            assert known.is_deleted
            return
        assert not known.is_deleted
        for name, data in (("stdout", out), ("stderr", err), ("merged", merged)):
            assert data.startswith(known.output[name]), "stored output has changed"
            known.output[name] = data
        self._observe(known, command)

    def _observe(self, known: KnownCommand, command: Command) -> None:
        status = Status(command.status)
        assert status in REACHABLE[known.status], f"{known.status} became {status}"
        assert not (status.final and self._is_held(known)), f"it ended: {command}"
        known.status = status
        assert command.rerun_of == known.rerun_of
        assert self._run_count(known) <= 1
        if known.final is not None:
            assert command.raw == known.final, "a final command has changed"
        elif status.final:
            known.final = command.raw
            self._check_end(known, command)

    def _run_count(self, known: KnownCommand) -> int:
        path = self.runs / known.id
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    def _check_end(self, known: KnownCommand, command: Command) -> None:
        assert processes_with(known.id) == [], "a process is left"
        assert command.status != "lost"
        assert command.status != "timed_out"
        if command.status == "stopped":
            assert known.stop_accepted
        if command.started_at is None:
            assert (command.status, self._run_count(known)) == ("stopped", 0)

    def _check_complete(self, known: KnownCommand, command: Command) -> None:
        """Check the output of a final command after `_look`."""
        out, err = OUTPUTS[known.kind]
        if command.status != "stopped":
            assert self._run_count(known) == 1
            assert (known.output["stdout"], known.output["stderr"]) == (out, err)
            expected = 3 if known.kind == "quick" else 0
            assert command.exit_code == expected
        else:
            assert out.startswith(known.output["stdout"])
        assert command.output["bytes"] == len(known.output["merged"])

    def teardown(self) -> None:
        """Let every command end, and check all of them for the last time."""
        self._open()
        for known in self.commands:
            if not known.is_deleted:
                command = self.client.wait(known.id)
                self._look(known)
                self._look(known)
                self._check_complete(known, command)
        self._look_for_deleted()
        self.client.close()

    def _look_for_deleted(self) -> None:
        for known in self.commands:
            assert self._run_count(known) <= 1
            self._look(known)


def lead_lives_over_http(
    machine: type[LivesOverHttp], service: Service, runs: Path, examples: int
) -> None:
    """Lead this many examples of random requests with one service."""
    service.wait_until_serving()
    running = type(f"{machine.__name__}Here", (machine,), {"service": service, "runs": runs})
    run_state_machine_as_test(
        running,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not os.environ.get("HYPOTHESIS_RANDOM"),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            phases=(Phase.generate,),  # to shrink an example takes very long with real processes
        ),
    )
    rows = "SELECT count(*) FROM commands WHERE deleted_at IS NOT NULL"
    eventually(lambda: service.sql(rows)[0][0] == 0, "the removal of all that was deleted")
