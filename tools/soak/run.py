"""One soak: the load in a thread of its own, faults at random, all compared at the end."""

import random
import time
from pathlib import Path

from support.oracle import Trial, quick
from support.service import Service
from tools.soak.faults import FAULTS, Hurting
from tools.soak.load import Load
from tools.soak.verdict import Verdict

NEWS_SECONDS = 15


def soak(
    service: Service,
    points: Path,
    verdict: Verdict,
    *,
    seconds: float,
    pause_seconds: float,
    faults: int = 0,
) -> None:
    """Hurt a service for so long, and compare everything.

    Args:
        service: it is started.
        points: the directory in which its fault points are armed.
        verdict: is filled.
        seconds: how long faults come.
        pause_seconds: between faults, on average.
        faults: how many come at least, on a slow machine for longer than that.
    """
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    load = Load(trial, random.Random(verdict.seed), verdict)
    chance = random.Random(verdict.seed + 1)
    hurting = Hurting(service, trial, points, chance)
    began = told = time.monotonic()
    load.start()
    try:
        while verdict.seconds < seconds or verdict.faults.total() < faults:
            time.sleep(chance.expovariate(1 / pause_seconds))
            fault = chance.choices(FAULTS, [each.weight for each in FAULTS])[0]
            try:
                fault.act(hurting)
            except AssertionError as error:
                verdict.problem(f"{fault.name}: {error}")
                break
            verdict.faults[fault.name] += 1
            verdict.seconds = time.monotonic() - began
            if time.monotonic() - told > NEWS_SECONDS:
                told = time.monotonic()
                print(verdict.line(), flush=True)
    finally:
        load.finish()
    try:
        trial.ran()
        trial.nobody_is_left()
    except AssertionError as error:
        verdict.problem(str(error))
