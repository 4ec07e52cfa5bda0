"""The one oracle of the fault suites: scripts whose every byte is known, and what must be so after.

A `Trial` submits scripts of all kinds to a service that is being hurt, each submit with a name of
its own so that it can be sent again, and at the end compares everything that can be seen with
what the scripts did: bytes, exits, runs, processes, descriptors, the spool.
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
RUN = 'echo "$SCRIPTSERVICE_COMMAND_ID" >> "$RUNS"\n'
WHOLE = 'echo "$SCRIPTSERVICE_COMMAND_ID" >> "$RUNS.whole"'
"""What a script that may be cut says after its last line, so that this line must be there."""


@dataclass(frozen=True)
class Script:
    """A script, and how it ends and what it prints when nobody hurts it.

    Attributes:
        kind: one word, for messages.
        text: what is submitted.
        ends: its status, and its exit code or None.
        fields: what else is submitted.
        stdout: every byte it prints there.
        stderr: every byte it prints there.
        bounded: False if it prints numbered lines until it is ended: then any number is right.
        stop: how it is to be stopped once it has begun; None for not.
        signal: what ended it, if that is known.
        runs: False if it cannot be started.
        cut: whether it may be ended before it has printed, or done anything at all: by a time-out,
            which does not wait for a slow machine. It notes itself once all is printed (`WHOLE`).
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
    cut: bool = False


def numbered(first: int, last: int, word: str = "line") -> bytes:
    """Return lines that can be told apart, as `COUNT` prints them."""
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
    """Ignores SIGTERM, and leaves a daemon in a session of its own; it is stopped."""
    text = "trap '' TERM; setsid sleep 3600 & echo line 0000001; sleep 3600; sleep 3600"
    return Script(
        "stubborn",
        text,
        ("stopped", None),
        stdout=numbered(1, 1),
        stop={"grace_seconds": grace_seconds},
    )


def polite() -> Script:
    """Exits with 3 when it is asked to end; what it then prints counts."""
    text = "trap 'echo line 0000002; exit 3' TERM; echo line 0000001; sleep 3600 & wait"
    return Script(
        "polite", text, ("stopped", 3), stdout=numbered(1, 2), stop={"grace_seconds": 3600}
    )


def late(seconds: float = 0.4) -> Script:
    """Sleeps until its time-out."""
    return Script(
        "late",
        f"echo line 0000001; {WHOLE}; sleep 3600",
        ("timed_out", None),
        {"timeout_seconds": seconds, "grace_seconds": 0.2},
        stdout=numbered(1, 1),
        cut=True,
    )


def parent() -> Script:
    """Exits at once and leaves children behind, one of them a daemon."""
    text = "echo line 0000001; sleep 3600 & (setsid sleep 3600 >/dev/null 2>&1 &) ; exit 4"
    return Script("parent", text, ("failed", 4), {"leftover_seconds": 0.2}, stdout=numbered(1, 1))


def endless(limit_bytes: int = 4 << 20) -> Script:
    """Prints numbered lines for ever, of which the first bytes are kept; it is stopped."""
    return Script(
        "endless",
        # By one process: if a loop began another one, the numbers would begin again.
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
    """Return one of each, short enough to be run for each fault."""
    return [
        quick(), quick(7), printer(3_000), ticker(8), stubborn(), polite(), late(), parent(),
        impossible(),
    ]  # fmt: skip


@dataclass
class Sent:
    """A script that was submitted.

    Attributes:
        script: what it does.
        key: its Idempotency-Key.
        id: the command's, once it is known.
        stopped: whether it was asked to end, where it is to be.
        survived: False if a keeper died while it was not known to have ended.
        at: when it was first submitted, by the monotonic clock.
    """

    script: Script
    key: str
    id: str | None = None
    stopped: bool = False
    survived: bool = True
    at: float = field(default_factory=time.monotonic)


class Trial:
    """Scripts for one service, and the comparison at the end.

    Args:
        service: it runs, or will.

    Attributes:
        answer_seconds: how long a submit is waited for before it is sent again.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.sent: list[Sent] = []
        self.mark = f"oracle-{uuid4().hex}"
        self.runs = service.data_dir / "work" / f"runs-{self.mark}"
        self.answer_seconds = 10.0
        self._keeper_descriptors: list[str] | None = None

    @classmethod
    def at_rest(cls, service: Service) -> "Trial":
        """Return one for a service that has run a script and has nothing to do."""
        trial = cls(service)
        trial.submit(quick())
        trial.settle()
        trial.rest()
        return trial

    # While it is hurt

    def rest(self) -> None:
        """Take note of what the idle service has open; nothing more may be open at the end."""
        self._keeper_descriptors = descriptors(keeper_of(self.service).pid)

    def submit(self, script: Script, *, patiently: bool = True) -> Sent:
        """Submit a script; again with the same key until it is answered.

        Args:
            script: what to run.
            patiently: False to send it once: `settle` finds out what became of it.
        """
        sent = Sent(script, f"{self.mark}-{len(self.sent)}")
        self.sent.append(sent)
        if patiently:
            eventually(lambda: self._send(sent), f"{script.kind} to be accepted")
        else:
            self._send(sent)
        return sent

    def submit_all(self, scripts: list[Script], *, patiently: bool = True) -> None:
        """Submit scripts one after the other."""
        for script in scripts:
            self.submit(script, patiently=patiently)

    def _send_all(self) -> bool:
        return not [sent for sent in self.sent if not self._send(sent)]

    def _send(self, sent: Sent) -> bool:
        if sent.id is not None:
            return True
        body = {
            "script": RUN + sent.script.text,
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

    def press_on(self, some: list[Sent]) -> None:
        """Send once more what was not accepted, and stop what is to be stopped and has begun."""
        for sent in some:
            if self._send(sent) and sent.script.stop is not None:
                self._stop(sent)

    def stop_some(self) -> bool:
        """Stop what is to be stopped and has begun; return whether all of it has been asked."""
        stopping = [sent for sent in self.sent if sent.script.stop is not None]
        return not [sent for sent in stopping if not self._stop(sent)]

    def _stop(self, sent: Sent) -> bool:
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
        """Take note that what was sent until now may be ``lost`` and its output a prefix."""
        for sent in self.sent:
            sent.survived = False

    # Afterwards

    def settle(self, seconds: float = PATIENCE_SECONDS) -> list[dict[str, Any]]:
        """Send what was not accepted, stop what is to be stopped, wait for every end."""
        eventually(self._send_all, "all to be accepted", seconds)
        eventually(self.stop_some, "all to be asked to end", seconds)
        return [self.service.wait(str(sent.id), seconds) for sent in self.sent]

    def verify(
        self,
        *,
        keeper_died: bool = False,
        shut_down: bool = False,
        seconds: float = PATIENCE_SECONDS,
    ) -> dict[str, int]:
        """Wait for all ends, and compare everything.

        Args:
            keeper_died: whether commands may be ``lost`` and their output a prefix.
            shut_down: whether they may have been stopped because the service was shut down, and
                their output a prefix.
            seconds: that it may take.

        Returns:
            How many ended with each status.
        """
        if keeper_died:
            self.keeper_died()
        finals = self.settle(seconds)
        found: dict[str, int] = {}
        ran = self.ran()
        assert set(ran) <= {final["id"] for final in finals}, "something unknown ran"
        for sent, final in zip(self.sent, finals, strict=True):
            found[final["status"]] = found.get(final["status"], 0) + 1
            if shut_down and "shut down" in (final["reason"] or ""):
                assert final["status"] == "stopped", final
                # One that was ended at once may not have come to its first line.
                assert final["id"] in ran or not final["output"]["bytes"], final
                self._check_output(sent.script, final, doubtful=True)
                continue
            self.check(sent, final)
            if final["status"] != "lost" and not sent.script.cut:
                assert (final["id"] in ran) == sent.script.runs, final
        self.nobody_is_left()
        return found

    def ran(self) -> list[str]:
        """Return the ids of the scripts that ran, each of which wrote its own once."""
        ran = self._noted("")
        assert len(ran) == len(set(ran)), "something ran twice"
        return ran

    def _noted(self, what: str) -> list[str]:
        path = Path(f"{self.runs}{what}")
        return path.read_text().split() if path.exists() else []

    def begun(self) -> bool:
        """Whether all that was sent has printed something, or has ended."""
        found = [self.service.get(str(sent.id)) for sent in self.sent]
        return all(each["output"]["bytes"] or each["status"] in FINAL for each in found)

    def check(self, sent: Sent, final: dict[str, Any]) -> int:
        """Compare how a script ended, and every byte it printed; return how many there are."""
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
            doubtful |= sent.script.cut and final["id"] not in self._noted(".whole")
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
            # Compared by hash first: a difference of megabytes is no message.
            same = hashlib.sha256(received).digest() == hashlib.sha256(expected).digest()
            assert same, (script.kind, stream, final, first_difference(received, expected))
        assert final["output"]["bytes"] == total, (script.kind, final)
        return total

    def output_of(self, command: str, stream: str) -> bytes:
        """Return the stored output of a command, however often that has to be asked for."""

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

    def nobody_is_left(self) -> None:
        """Compare processes, descriptors and spool with those of a service that does nothing."""
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
                    f"the keeper to have open what it had: {self._keeper_descriptors}, "
                    f"not {descriptors(keeper.pid)}"
                ),
            )
        assert list((self.service.data_dir / "private").iterdir()) == []
        eventually(lambda: not self._spooled(), lambda: f"no spool: {self._spooled()}")

    def _spooled(self) -> str:
        """Return what is in the spool beyond one small journal segment, recorded to its end."""
        journal = self.service.data_dir / "journal"
        sizes = {path.name: path.stat().st_size for path in journal.glob("*.journal")}
        (lag,) = self._metric("scriptservice_journal_lag_bytes")
        if lag == 0 and len(sizes) == 1 and max(sizes.values()) < 8 << 20:
            return ""
        return f"{lag:.0f} bytes not recorded, segments {sizes}"

    def _metric(self, name: str) -> list[float]:
        text = self.service.client.get("/metrics").text
        return [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == name
        ]


def first_difference(received: bytes, expected: bytes) -> str:
    """Return where two outputs begin to differ, and what stands there."""
    pairs = enumerate(itertools.zip_longest(received, expected))
    at = next((position for position, (one, other) in pairs if one != other), -1)
    return f"at {at}: {received[at - 20 : at + 40]!r}, not {expected[at - 20 : at + 40]!r}"
