"""The load of a soak: scripts of every kind, submitted, stopped, followed, and compared."""

import random
import threading
import time
import traceback
from typing import Any

import httpx2 as httpx

from scriptservice import Client
from support.oracle import (
    Script,
    Sent,
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
TURN_SECONDS = 0.1
SLOWEST_SECONDS = 120


class Load:
    """Submits scripts until it is told to stop, from a thread of its own.

    Args:
        trial: what it submits with, and compares by.
        chance: where randomness comes from.
        verdict: where everything is counted.
    """

    def __init__(self, trial: Trial, chance: random.Random, verdict: Verdict) -> None:
        self._trial = trial
        self._chance = chance
        self._verdict = verdict
        self._outstanding: list[Sent] = []
        self._followings: list[_Following] = []
        self._followed: set[str] = set()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Submit nothing more, and wait until everything has ended and is compared."""
        self._enough.set()
        self._thread.join()
        for following in self._followings:
            following.join(self._verdict)

    def _script(self) -> Script:
        chance = self._chance
        kinds = (
            quick, quick, quick, quick, quick, ticker, polite, parent, impossible, endless,
            stubborn, late,
        )  # fmt: skip
        if chance.random() < 0.15:
            return printer(chance.randrange(1, 60_000), chance.choice((0, 9)))
        if chance.random() < 0.2:
            return ticker(chance.randrange(1, 200), 0.05)
        return chance.choice(kinds)()

    def _run(self) -> None:
        try:
            while not self._enough.is_set() or self._outstanding:
                self._turn()
                time.sleep(TURN_SECONDS)
        except Exception:  # noqa: BLE001 - told in the verdict
            self._verdict.problem(f"the load broke off: {traceback.format_exc()}")

    def _turn(self) -> None:
        if not self._enough.is_set():
            for _ in range(self._chance.randrange(6)):
                if len(self._outstanding) < OUTSTANDING:
                    self._outstanding.append(self._trial.submit(self._script(), patiently=False))
        self._trial.press_on(self._outstanding)
        known = self._look()
        for sent in list(self._outstanding):
            final = known.get(sent.id or "")
            if final is not None:
                self._compare(sent, final)
                self._outstanding.remove(sent)
            elif time.monotonic() - sent.at > SLOWEST_SECONDS:
                self._verdict.problem(f"{sent.script.kind} {sent.id} has not ended")
                self._outstanding.remove(sent)
        self._follow_some()

    def _look(self) -> dict[str, dict[str, Any]]:
        """Return the newest commands that have ended, by id; none if nobody answers."""
        try:
            response = self._trial.service.client.get("/v1/commands?limit=1000", timeout=10)
        except httpx.HTTPError:
            return {}
        if response.status_code != 200:
            return {}
        items = response.json()["items"]
        return {item["id"]: item for item in items if item["status"] in FINAL}

    def _compare(self, sent: Sent, final: dict[str, Any]) -> None:
        self._verdict.ended(final["status"])
        try:
            self._verdict.compared_bytes += self._trial.check(sent, final)
        except AssertionError as error:
            self._verdict.problem(f"{sent.script.kind}: {error}")

    def _follow_some(self) -> None:
        living = [each for each in self._followings if each.is_alive()]
        for sent in self._outstanding:
            if len(living) >= FOLLOWERS:
                return
            if sent.id and sent.id not in self._followed and sent.script.kind in _FOLLOWED:
                self._followed.add(sent.id)
                living.append(_Following(self._trial, sent))
                self._followings.append(living[-1])
                living[-1].start()


_FOLLOWED = ("ticker", "printer", "polite", "quick")


class _Following(threading.Thread):
    """Follows one command from its beginning to its end, through every break."""

    def __init__(self, trial: Trial, sent: Sent) -> None:
        super().__init__(name=f"follow {sent.id}", daemon=True)
        self._trial = trial
        self._sent = sent
        self._parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._status = ""
        self._broke = ""

    def run(self) -> None:
        """Collect what comes."""
        service, command = self._trial.service, str(self._sent.id)
        try:
            with Client(service.url, service.token, retry_seconds=SLOWEST_SECONDS) as client:
                following = client.follow(command)
                for chunk in following:
                    self._parts[chunk.stream].append(chunk.data)
                self._status = following.command.status if following.command else "unknown"
        except Exception:  # noqa: BLE001 - told in the verdict
            self._broke = traceback.format_exc()

    def join(self, verdict: Verdict) -> None:  # type: ignore[override]
        """Wait for its end, and compare what it got."""
        super().join(SLOWEST_SECONDS)
        verdict.followed += 1
        received = {stream: b"".join(parts) for stream, parts in self._parts.items()}
        verdict.followed_bytes += sum(map(len, received.values()))
        if self.is_alive() or self._broke:
            verdict.problem(f"a follower of {self._sent.id} got no end: {self._broke}")
            return
        for stream, got in received.items():
            stored = self._trial.output_of(str(self._sent.id), stream)
            if got != stored:
                verdict.problem(
                    f"a follower of {self._sent.script.kind} {self._sent.id} got {len(got)} bytes "
                    f"of {stream}, of {len(stored)}"
                )
