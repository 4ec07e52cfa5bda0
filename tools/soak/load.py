"""The load of a soak: submits, stops and follows scripts of every kind, and checks the results."""

import random
import threading
import time
import traceback
from typing import Any

import httpx2 as httpx

from scriptservice import Client
from support.oracle import (
    Script,
    SentScript,
    Trial,
    endless,
    impossible,
    late,
    parent,
    polite,
    printer,
    quick,
    stubborn,
    ticker,
)
from support.service import FINAL
from tools.soak.verdict import Verdict

OUTSTANDING = 60
FOLLOWERS = 6
ROUND_SECONDS = 0.1
MAX_COMMAND_SECONDS = 120


class Load:
    """Submits scripts on a thread of its own until `finish` is called.

    Args:
        trial: submits the scripts and checks their results.
        rng: source of randomness.
        verdict: receives the counts and the broken promises.
    """

    def __init__(self, trial: Trial, rng: random.Random, verdict: Verdict) -> None:
        self._trial = trial
        self._rng = rng
        self._verdict = verdict
        self._outstanding: list[SentScript] = []
        self._followers: list[_Follower] = []
        self._followed: set[str] = set()
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self) -> None:
        """Submit nothing more, and wait until every command has ended and is checked."""
        self._finishing.set()
        self._thread.join()
        for following in self._followers:
            following.join(self._verdict)

    def _script(self) -> Script:
        rng = self._rng
        kinds = (
            quick, quick, quick, quick, quick, ticker, polite, parent, impossible, endless,
            stubborn, late,
        )  # fmt: skip
        if rng.random() < 0.15:
            return printer(rng.randrange(1, 60_000), rng.choice((0, 9)))
        if rng.random() < 0.2:
            return ticker(rng.randrange(1, 200), 0.05)
        return rng.choice(kinds)()

    def _run(self) -> None:
        try:
            while not self._finishing.is_set() or self._outstanding:
                self._round()
                time.sleep(ROUND_SECONDS)
        except Exception:  # noqa: BLE001 - the verdict reports it
            self._verdict.problem(f"the load failed: {traceback.format_exc()}")

    def _round(self) -> None:
        if not self._finishing.is_set():
            for _ in range(self._rng.randrange(6)):
                if len(self._outstanding) < OUTSTANDING:
                    self._outstanding.append(self._trial.submit(self._script(), retry=False))
        self._trial.retry_and_stop(self._outstanding)
        known = self._ended_commands()
        for sent in list(self._outstanding):
            final = known.get(sent.id or "")
            if final is not None:
                self._compare(sent, final)
                self._outstanding.remove(sent)
            elif time.monotonic() - sent.at > MAX_COMMAND_SECONDS:
                self._verdict.problem(f"{sent.script.kind} {sent.id} has not ended")
                self._outstanding.remove(sent)
        self._follow_some()

    def _ended_commands(self) -> dict[str, dict[str, Any]]:
        """Return the newest commands that have ended, by id; none if the server is away."""
        try:
            response = self._trial.service.client.get("/v1/commands?limit=1000", timeout=10)
        except httpx.HTTPError:
            return {}
        if response.status_code != 200:
            return {}
        items = response.json()["items"]
        return {item["id"]: item for item in items if item["status"] in FINAL}

    def _compare(self, sent: SentScript, final: dict[str, Any]) -> None:
        self._verdict.ended(final["status"])
        try:
            self._verdict.compared_bytes += self._trial.check(sent, final)
        except AssertionError as error:
            self._verdict.problem(f"{sent.script.kind}: {error}")

    def _follow_some(self) -> None:
        alive = [each for each in self._followers if each.is_alive()]
        for sent in self._outstanding:
            if len(alive) >= FOLLOWERS:
                return
            if sent.id and sent.id not in self._followed and sent.script.kind in _FOLLOWED:
                self._followed.add(sent.id)
                alive.append(_Follower(self._trial, sent))
                self._followers.append(alive[-1])
                alive[-1].start()


_FOLLOWED = ("ticker", "printer", "polite", "quick")


class _Follower(threading.Thread):
    """Follows one command from its beginning to its end, and reconnects after every break."""

    def __init__(self, trial: Trial, sent: SentScript) -> None:
        super().__init__(name=f"follow {sent.id}", daemon=True)
        self._trial = trial
        self._sent = sent
        self._parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._status = ""
        self._failure = ""

    def run(self) -> None:
        """Collect the output."""
        service, command_id = self._trial.service, str(self._sent.id)
        try:
            with Client(service.url, service.token, retry_seconds=MAX_COMMAND_SECONDS) as client:
                following = client.follow(command_id)
                for chunk in following:
                    self._parts[chunk.stream].append(chunk.data)
                self._status = following.command.status if following.command else "unknown"
        except Exception:  # noqa: BLE001 - the verdict reports it
            self._failure = traceback.format_exc()

    def join(self, verdict: Verdict) -> None:  # type: ignore[override]
        """Wait for the thread's end, and compare the received output with the stored output."""
        super().join(MAX_COMMAND_SECONDS)
        verdict.followed += 1
        received = {stream: b"".join(parts) for stream, parts in self._parts.items()}
        verdict.followed_bytes += sum(map(len, received.values()))
        if self.is_alive() or self._failure:
            verdict.problem(f"a follower of {self._sent.id} did not end: {self._failure}")
            return
        for stream, got in received.items():
            stored = self._trial.output_of(str(self._sent.id), stream)
            if got != stored:
                verdict.problem(
                    f"a follower of {self._sent.script.kind} {self._sent.id} got {len(got)} bytes "
                    f"of {stream}, of {len(stored)}"
                )
