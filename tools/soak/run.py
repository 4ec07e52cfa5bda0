"""One soak: a load in a thread of its own, random faults, and a check of everything at the end."""

import random
import time
from pathlib import Path

from support.oracle import Trial, quick
from support.service import Service
from tools.soak.faults import FAULTS, FaultInjector
from tools.soak.load import Load
from tools.soak.verdict import Verdict

REPORT_SECONDS = 15


def soak(
    service: Service,
    points: Path,
    verdict: Verdict,
    *,
    seconds: float,
    pause_seconds: float,
    faults: int = 0,
) -> None:
    """Inject faults into a service under load, and check everything.

    Args:
        service: a started service.
        points: the directory whose files arm the service's fault points.
        verdict: receives the results.
        seconds: how long to inject faults, at least.
        pause_seconds: average pause between two faults.
        faults: least number of faults. If fewer were injected after ``seconds``, as on a slow
            machine, the soak continues until there were this many.
    """
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    load = Load(trial, random.Random(verdict.seed), verdict)
    rng = random.Random(verdict.seed + 1)
    injector = FaultInjector(service, trial, points, rng)
    began = reported_at = time.monotonic()
    load.start()
    try:
        while verdict.seconds < seconds or verdict.faults.total() < faults:
            time.sleep(rng.expovariate(1 / pause_seconds))
            fault = rng.choices(FAULTS, [each.weight for each in FAULTS])[0]
            try:
                fault.act(injector)
            except AssertionError as error:
                verdict.problem(f"{fault.name}: {error}")
                break
            verdict.faults[fault.name] += 1
            verdict.seconds = time.monotonic() - began
            if time.monotonic() - reported_at > REPORT_SECONDS:
                reported_at = time.monotonic()
                print(verdict.line(), flush=True)
    finally:
        load.finish()
    try:
        trial.run_ids()
        trial.check_nothing_left()
    except AssertionError as error:
        verdict.problem(str(error))
