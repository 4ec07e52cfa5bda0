"""Runs a service under mixed load, injects random faults, and prints a verdict."""

import argparse
import contextlib
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from scriptservice.protocol.fault_points import VARIABLE
from support.postgres import databases
from support.service import Service, new_directory
from tools.soak.run import soak
from tools.soak.verdict import Verdict


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="duration (default: 20)")
    parser.add_argument(
        "--database", default="sqlite", help="sqlite, postgresql (starts a server), or a URL"
    )
    parser.add_argument(
        "--pause", type=float, default=1.0, help="seconds between faults, on average (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=None, help="repeat the faults of this seed")
    parser.add_argument("--json", metavar="FILE", help="also write the verdict to FILE")
    return parser.parse_args()


@contextlib.contextmanager
def chosen_database(name: str) -> Iterator[str | None]:
    """Yield the URL of the database, or None for SQLite in the data directory."""
    if name == "sqlite":
        yield None
    elif name == "postgresql":
        with databases() as made:
            yield made.migrated()
    else:
        yield name


def main() -> int:
    """Run a soak; return 1 if the service broke a promise."""
    arguments = parse_arguments()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    points = new_directory()
    verdict = Verdict(seed, arguments.database)
    with chosen_database(arguments.database) as url:
        environment = {VARIABLE: str(points)}
        service = Service(None, "--max-running", "40", database=url, environment=environment)
        try:
            service.start()
            soak(
                service,
                points,
                verdict,
                seconds=arguments.minutes * 60,
                pause_seconds=arguments.pause,
            )
        finally:
            if verdict.problems:
                print(service.output()[-20_000:], file=sys.stderr)
            service.close()
            shutil.rmtree(points)
    print(verdict.table())
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(verdict.members(), indent=2), encoding="utf-8")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
