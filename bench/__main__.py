"""``scripts/bench``: measures the service beside the machine's own limits."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import plot, profiling, report
from bench.measure import Measured, Plan, Progress
from bench.registry import BENCHMARKS, BY_NAME
from bench.service import SAME_UID


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for; return 1 if a target was missed."""
    asked = _parser().parse_args(words)
    # As an exception, so that what was started is ended and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unknown = [name for name in asked.names if name not in BY_NAME]
    if unknown:
        print(f"cannot measure {', '.join(unknown)}: see scripts/bench --list", file=sys.stderr)
        return 2
    if asked.list:
        _list()
        return 0
    if asked.profile:
        _profile(docs=asked.docs)
        return 0
    found: dict[str, Measured] = {}
    if asked.read:
        for path in asked.read:
            for name, measured in report.read(path).items():
                found.setdefault(name, {}).update(measured)
    else:
        repetitions = asked.repetitions or (1 if asked.quick else 3)
        plan = Plan(asked.quick, repetitions, Progress())
        with plan.kept:
            for benchmark in BENCHMARKS:
                if not asked.names or benchmark.name in asked.names:
                    found[benchmark.name] = _measure(benchmark.name, plan)
    return _tell(found, asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the service, each figure beside a limit of the same run.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; see --list")
    parser.add_argument("--list", action="store_true", help="say what can be measured")
    parser.add_argument(
        "--quick", action="store_true", help="small and once, to see that it runs; judges nothing"
    )
    parser.add_argument("--repetitions", type=int, metavar="N", help="of each, 3 by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    parser.add_argument("--markdown", action="store_true", help="print it as a table of Markdown")
    parser.add_argument(
        "--docs", action="store_true", help="put table and plot into docs/performance.md"
    )
    parser.add_argument(
        "--read",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing, read what --json wrote",
    )
    parser.add_argument(
        "--profile", action="store_true", help="CPU per command by stage instead, by sampling"
    )
    return parser


def _list() -> None:
    for benchmark in BENCHMARKS:
        for row in benchmark.rows:
            target = f"{row.judged.value} {row.target}"
            print(f"{benchmark.name:<14} {row.name:<26} {target:<26} {row.what}")


def _measure(name: str, plan: Plan) -> Measured:
    plan.progress.begin(name)
    measured = BY_NAME[name].measure(plan)
    plan.progress.end()
    missing = [row.name for row in BY_NAME[name].rows if row.name not in measured]
    for line in report.lines({name: measured}):
        print(report.text(line), flush=True)
    if missing:
        print(f"{name}: not measured here: {', '.join(missing)}", flush=True)
    return measured


def _tell(found: dict[str, Measured], asked: argparse.Namespace) -> int:
    lines = list(report.lines(found))
    if asked.json:
        content = json.dumps(report.to_json(found, quick=asked.quick), indent=2, ensure_ascii=False)
        asked.json.write_text(content + "\n")
    if asked.markdown:
        print(report.table(found))
    if asked.docs:
        report.put_into_page("table", report.table(found))
        report.PLOT.write_text(plot.ratios(lines))
    if asked.quick:
        return 0
    missed = [f"{line.benchmark}, {line.row.name}" for line in lines if not line.met]
    if missed:
        print(f"missed: {'; '.join(missed)}")
    return 1 if missed else 0


def _profile(*, docs: bool) -> None:
    modes = {"same uid": SAME_UID, "another uid, cgroup each": []}
    profiles = {name: profiling.take(flags, seconds=10) for name, flags in modes.items()}
    content = profiling.table(profiles)
    print(content)
    if docs:
        report.put_into_page("stages", content)
        stacks = [
            plot.Stack(f"{process}, {mode}", stages)
            for mode, profile in profiles.items()
            for process, stages in profile.stages.items()
        ]
        path = report.PLOT.with_name("bench-stages.svg")
        path.write_text(plot.stages("CPU per command by stage, µs", stacks))


if __name__ == "__main__":
    sys.exit(main())
