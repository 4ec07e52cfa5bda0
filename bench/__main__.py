"""Runs every benchmark: ``scripts/bench``, ``scripts/bench --quick``."""

import argparse
import json
from pathlib import Path

from bench import completed, database, latency

parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures, beside the limit.")
parser.add_argument("--quick", action="store_true", help="one short run of each, no judgement")
parser.add_argument("--json", metavar="FILE", help="also write the figures to a file")
asked = parser.parse_args()
figures = {
    "completed": completed.main(quick=asked.quick),
    "database": database.main(quick=asked.quick),
    "latency": latency.main(quick=asked.quick),
}
if asked.json:
    Path(asked.json).write_text(json.dumps(figures, indent=2))
