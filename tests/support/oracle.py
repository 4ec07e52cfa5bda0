"""The oracle of the fault tests: scripts with known output, and a check of their results.

A `Trial` submits scripts of all kinds to a service while faults happen. Each submit has an
Idempotency-Key, so that it can be repeated. At the end the trial compares everything that can be
observed with what the scripts did: output, exits, runs, processes, descriptors, the journal's size.
"""

import contextlib
import hashlib
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2 as httpx

from support.scripts import keeper_of, zombies_of
from support.service import FINAL, PATIENCE_SECONDS, Service, eventually, processes_with
from support.upgrades import descriptors

MARK = "ORACLE_MARK"
_SHOWN = ["pid", "ppid", "status", "cmdline", "create_time", "num_fds"]
NOTE_RUN = 'echo "$SCRIPTSERVICE_COMMAND_ID" >> "$RUNS"\n'
NOTE_COMPLETE = 'echo "$SCRIPTSERVICE_COMMAND_ID" >> "$RUNS.whole"'
"""A script that may be cut short runs this after its last line; then that line must be stored."""


@dataclass(frozen=True)
class Script:
    """A script, and how it ends and what it prints if no fault happens.

    Attributes:
        kind: a word for messages.
        text: the script.
        ends: its status, and its exit code or None.
        fields: further fields of the submission.
        stdout: every byte that it prints to stdout.
        stderr: every byte that it prints to stderr.
        bounded: False if it prints numbered lines until it is stopped; any number is right then.
        stop: the body of the stop request that is sent once it has printed; None for no stop.
        signal: the signal that ends it, if it is known.
        runs: False if it cannot be started.
        may_be_cut: whether it may be ended before it has printed everything, or anything: a
            time-out does not wait for a slow machine. It runs `NOTE_COMPLETE` after its last line.
    """

    kind: str
    text: str
    ends: tuple[str, int | None] = ("succeeded", 0)
    fields: dict[str, Any] = field(default_factory=dict)
    stdout: bytes = b""
    stderr: bytes = b""
    bounded: bool = True
    stop: dict[str, Any] | None = None
    signal: str | None = None
    runs: bool = True
    may_be_cut: bool = False


def numbered(first: int, last: int, word: str = "line") -> bytes:
    """Return numbered lines, as ``seq -f "line %07.0f"`` prints them."""
    return b"".join(b"%s %07d\n" % (word.encode(), number) for number in range(first, last + 1))


def quick(code: int = 0) -> Script:
    """Prints a little on both streams and exits with a code."""
    ends = ("failed", code) if code else ("succeeded", 0)
    text = f"echo out; echo problem >&2; exit {code}"
    return Script("quick", text, ends, stdout=b"out\n", stderr=b"problem\n")


def printer(lines: int = 20_000, code: int = 0) -> Script:
    """Prints many numbered lines on both streams at once."""
    text = f"seq -f 'line %07.0f' {lines} & seq -f 'error %07.0f' {lines} >&2 & wait; exit {code}"
    ends = ("failed", code) if code else ("succeeded", 0)
    return Script(
        "printer", text, ends, stdout=numbered(1, lines), stderr=numbered(1, lines, "error")
    )


def ticker(ticks: int = 20, seconds: float = 0.05) -> Script:
    """Prints a numbered line now and then."""
    text = f"for i in $(seq {ticks}); do printf 'line %07d\\n' $i; sleep {seconds}; done; exit 5"
    return Script("ticker", text, ("failed", 5), stdout=numbered(1, ticks))


def stubborn(grace_seconds: float = 0.3) -> Script:
    """Ignores SIGTERM and starts a daemon in a session of its own; the trial stops it."""
    text = "trap '' TERM; setsid sleep 3600 & echo line 0000001; sleep 3600; sleep 3600"
    return Script(
        "stubborn",
        text,
        ("stopped", None),
        stdout=numbered(1, 1),
        stop={"grace_seconds": grace_seconds},
    )


def polite() -> Script:
    """Prints a line at SIGTERM and exits with 3; the trial stops it."""
    text = "trap 'echo line 0000002; exit 3' TERM; echo line 0000001; sleep 3600 & wait"
    return Script(
        "polite", text, ("stopped", 3), stdout=numbered(1, 2), stop={"grace_seconds": 3600}
    )


def late(seconds: float = 0.4) -> Script:
    """Sleeps until its time-out ends it."""
    return Script(
        "late",
        f"echo line 0000001; {NOTE_COMPLETE}; sleep 3600",
        ("timed_out", None),
        {"timeout_seconds": seconds, "grace_seconds": 0.2},
        stdout=numbered(1, 1),
        may_be_cut=True,
    )


def parent() -> Script:
    """Exits at once and leaves two children behind, one of them a daemon."""
    text = "echo line 0000001; sleep 3600 & (setsid sleep 3600 >/dev/null 2>&1 &) ; exit 4"
    return Script("parent", text, ("failed", 4), {"leftover_seconds": 0.2}, stdout=numbered(1, 1))


def endless(limit_bytes: int = 4 << 20) -> Script:
    """Prints numbered lines endlessly, of which the first bytes are kept; the trial stops it."""
    return Script(
        "endless",
        # One process prints all: a loop of several would begin with the first number again.
        "exec seq -f 'line %07.0f' 999999999",
        ("stopped", None),
        {"output_limit_bytes": limit_bytes},
        bounded=False,
        stop={"grace_seconds": 0},
    )


def impossible() -> Script:
    """Cannot be started."""
    return Script(
        "impossible",
        "echo never",
        ("failed", None),
        {"interpreter": ["/no/such/interpreter"]},
        runs=False,
    )


def every_kind() -> list[Script]:
    """Return one script of each kind, short enough to run for each fault."""
    return [
        quick(), quick(7), printer(3_000), ticker(8), stubborn(), polite(), late(), parent(),
        impossible(),
    ]  # fmt: skip


@dataclass
class SentScript:
    """A script that was submitted.

    Attributes:
        script: the script.
        key: its Idempotency-Key.
        id: the command id, once it is known.
        stopped: whether it was asked to stop, or has ended without that.
        survived: False if a keeper may have died before the script ended.
        at: time of the first submit, by the monotonic clock.
    """

    script: Script
    key: str
    id: str | None = None
    stopped: bool = False
    survived: bool = True
    at: float = field(default_factory=time.monotonic)


class Trial:
    """Scripts for one service, and the check of their results.

    Args:
        service: a service that runs or will be started.

    Attributes:
        sent: the submitted scripts, in order.
        mark: a text in the environment of all processes of these scripts.
        runs: the file to which each script appends its command id when it runs.
        answer_seconds: how long a submit waits for its answer.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.sent: list[SentScript] = []
        self.mark = f"oracle-{uuid4().hex}"
        self.runs = service.data_dir / "work" / f"runs-{self.mark}"
        self.answer_seconds = 10.0
        self._keeper_descriptors: list[str] | None = None

    @classmethod
    def on_idle_service(cls, service: Service) -> "Trial":
        """Return a trial for an idle service, after one script has run."""
        trial = cls(service)
        trial.submit(quick())
        trial.settle()
        trial.note_descriptors()
        return trial

    # While faults happen

    def note_descriptors(self) -> None:
        """Note the open descriptors of the idle keeper; `verify` expects the same at the end."""
        self._keeper_descriptors = descriptors(keeper_of(self.service).pid)

    def submit(self, script: Script, *, retry: bool = True) -> SentScript:
        """Submit a script.

        Args:
            script: the script.
            retry: whether to repeat the submit, with the same key, until it is answered. If not,
                `settle` repeats it.
        """
        sent = SentScript(script, f"{self.mark}-{len(self.sent)}")
        self.sent.append(sent)
        if retry:
            eventually(lambda: self._send(sent), f"{script.kind} to be accepted")
        else:
            self._send(sent)
        return sent

    def submit_all(self, scripts: list[Script], *, retry: bool = True) -> None:
        """Submit scripts one after the other."""
        for script in scripts:
            self.submit(script, retry=retry)

    def _send_all(self) -> bool:
        return not [sent for sent in self.sent if not self._send(sent)]

    def _send(self, sent: SentScript) -> bool:
        if sent.id is not None:
            return True
        body = {
            "script": NOTE_RUN + sent.script.text,
            "name": sent.script.kind,
            **sent.script.fields,
            "env": {MARK: self.mark, "RUNS": str(self.runs)},
        }
        try:
            response = self.service.client.post(
                "/v1/commands",
                json=body,
                headers={"Idempotency-Key": sent.key},
                timeout=self.answer_seconds,
            )
        except httpx.HTTPError:
            return False
        if response.status_code in (503, 507):
            return False
        assert response.status_code == 201, response.text
        sent.id = response.json()["id"]
        return True

    def retry_and_stop(self, some: list[SentScript]) -> None:
        """Repeat submits that were not answered, and stop scripts that have started to print."""
        for sent in some:
            if self._send(sent) and sent.script.stop is not None:
                self._stop(sent)

    def stop_started(self) -> bool:
        """Stop scripts that have started to print; return whether no script is left to stop."""
        stopping = [sent for sent in self.sent if sent.script.stop is not None]
        return not [sent for sent in stopping if not self._stop(sent)]

    def _stop(self, sent: SentScript) -> bool:
        if sent.stopped:
            return True
        if sent.id is None:
            return False
        client, path = self.service.client, f"/v1/commands/{sent.id}"
        with contextlib.suppress(httpx.HTTPError):
            found = client.get(path, timeout=10)
            if found.status_code != 200:
                return False
            command = found.json()
            if command["status"] in FINAL:
                sent.stopped = True
            elif command["output"]["bytes"]:
                answer = client.post(f"{path}/stop", json=sent.script.stop, timeout=10)
                sent.stopped = answer.status_code in (202, 409)
        return sent.stopped

    def keeper_died(self) -> None:
        """Note that scripts sent until now may be ``lost`` and their output incomplete."""
        for sent in self.sent:
            sent.survived = False

    # Afterwards

    def settle(self, seconds: float = PATIENCE_SECONDS) -> list[dict[str, Any]]:
        """Repeat unanswered submits, stop what has to be stopped, and wait until all have ended."""
        eventually(self._send_all, "all submits to be accepted", seconds)
        eventually(self.stop_started, "all stops to be accepted", seconds)
        return [self.service.wait(str(sent.id), seconds) for sent in self.sent]

    def verify(
        self,
        *,
        keeper_died: bool = False,
        shut_down: bool = False,
        seconds: float = PATIENCE_SECONDS,
    ) -> dict[str, int]:
        """Wait until all have ended, and check everything.

        Args:
            keeper_died: whether commands may be ``lost`` and their output incomplete.
            shut_down: whether a shutdown of the service may have stopped them, so that their
                output is incomplete.
            seconds: how long each wait may take.

        Returns:
            How many commands ended with each status.
        """
        if keeper_died:
            self.keeper_died()
        finals = self.settle(seconds)
        found: dict[str, int] = {}
        ran = self.run_ids()
        assert set(ran) <= {final["id"] for final in finals}, "an unknown script ran"
        for sent, final in zip(self.sent, finals, strict=True):
            found[final["status"]] = found.get(final["status"], 0) + 1
            if shut_down and "shut down" in (final["reason"] or ""):
                assert final["status"] == "stopped", final
                # A script that was stopped at once may not have reached its first line.
                assert final["id"] in ran or not final["output"]["bytes"], final
                self._check_output(sent.script, final, doubtful=True)
                continue
            self.check(sent, final)
            if final["status"] != "lost" and not sent.script.may_be_cut:
                assert (final["id"] in ran) == sent.script.runs, final
        self.check_nothing_left()
        return found

    def run_ids(self) -> list[str]:
        """Return the command ids of the scripts that ran; assert that none ran twice."""
        ran = self._noted("")
        assert len(ran) == len(set(ran)), "a script ran twice"
        return ran

    def _noted(self, what: str) -> list[str]:
        path = Path(f"{self.runs}{what}")
        return path.read_text().split() if path.exists() else []

    def all_started(self) -> bool:
        """Return whether each script has printed something or has ended."""
        found = [self.service.get(str(sent.id)) for sent in self.sent]
        return all(each["output"]["bytes"] or each["status"] in FINAL for each in found)

    def check(self, sent: SentScript, final: dict[str, Any]) -> int:
        """Check how a script ended and every byte of its output; return the number of bytes."""
        about = (sent.script.kind, final)
        doubtful = not sent.survived and "incomplete" in (final["reason"] or "")
        if final["status"] == "lost":
            assert not sent.survived, about
            assert final["reason"], about
            assert (final["exit_code"], final["signal"]) == (None, None), about
            doubtful = True
        else:
            assert (final["status"], final["exit_code"]) == sent.script.ends, about
            assert sent.script.signal in (None, final["signal"]), about
            doubtful |= sent.script.may_be_cut and final["id"] not in self._noted(".whole")
        return self._check_output(sent.script, final, doubtful=doubtful)

    def _check_output(self, script: Script, final: dict[str, Any], *, doubtful: bool) -> int:
        total = 0
        for stream, expected in (("stdout", script.stdout), ("stderr", script.stderr)):
            received = self.output_of(final["id"], stream)
            total += len(received)
            assert final["output"][f"{stream}_bytes"] == len(received), (script.kind, final)
            if not script.bounded and stream == "stdout":
                expected = numbered(1, len(received) // 13 + 1)  # noqa: PLW2901
            if doubtful or not script.bounded:
                expected = expected[: len(received)]  # noqa: PLW2901
            assert len(received) == len(expected), (script.kind, stream, final)
            # Hashes are compared, since pytest would print a difference of megabytes.
            same = hashlib.sha256(received).digest() == hashlib.sha256(expected).digest()
            assert same, (script.kind, stream, final, first_difference(received, expected))
        assert final["output"]["bytes"] == total, (script.kind, final)
        return total

    def output_of(self, command: str, stream: str) -> bytes:
        """Return the stored output of a command; repeat the request until the server answers."""

        def ask() -> list[bytes]:
            path = f"/v1/commands/{command}/output"
            try:
                answer = self.service.client.get(path, params={"stream": stream})
            except httpx.HTTPError:
                return []
            if answer.status_code == 503:
                return []
            assert answer.status_code == 200, answer.text
            return [answer.content]

        (output,) = eventually(ask, f"the output of {command}")
        return bytes(output)

    def check_nothing_left(self) -> None:
        """Assert that no process, descriptor, file or journal of the scripts is left."""
        left = [each.as_dict(_SHOWN) for each in processes_with(self.mark)]
        assert not left, left
        keeper = keeper_of(self.service)
        eventually(lambda: not zombies_of(keeper), "zombies to be reaped")
        eventually(
            lambda: [child.pid for child in keeper.children()] == [self.service.server_pid],
            "the server to be the keeper's only child",
        )
        if self._keeper_descriptors is not None:
            eventually(
                lambda: descriptors(keeper.pid) == self._keeper_descriptors,
                lambda: (
                    f"the keeper to have its former descriptors: {self._keeper_descriptors}, "
                    f"not {descriptors(keeper.pid)}"
                ),
            )
        assert list((self.service.data_dir / "private").iterdir()) == []
        eventually(
            lambda: not self._journal_excess(),
            lambda: f"the journal to shrink: {self._journal_excess()}",
        )

    def _journal_excess(self) -> str:
        """Return a text if the journal is more than one small segment that is wholly stored."""
        journal = self.service.data_dir / "journal"
        sizes = {path.name: path.stat().st_size for path in journal.glob("*.journal")}
        (lag,) = self._metric("scriptservice_journal_lag_bytes")
        if lag == 0 and len(sizes) == 1 and max(sizes.values()) < 8 << 20:
            return ""
        return f"{lag:.0f} bytes not stored, segments {sizes}"

    def _metric(self, name: str) -> list[float]:
        text = self.service.client.get("/metrics").text
        return [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == name
        ]


def first_difference(received: bytes, expected: bytes) -> str:
    """Return where two outputs begin to differ, and the bytes around that place."""
    pairs = enumerate(itertools.zip_longest(received, expected))
    at = next((position for position, (one, other) in pairs if one != other), -1)
    return f"at {at}: {received[at - 20 : at + 40]!r}, not {expected[at - 20 : at + 40]!r}"
