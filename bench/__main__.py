"""``scripts/bench``: measures the service, and in the same run the machine's own limits."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import plot, profiling, report
from bench.measure import Plan, Progress, Results
from bench.registry import BENCHMARKS, BY_NAME
from bench.service import SAME_UID


def main(words: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return 1 if a target was missed."""
    arguments = _parser().parse_args(words)
    # SIGTERM raises SystemExit. So the context managers end the services and remove their files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unknown = [name for name in arguments.names if name not in BY_NAME]
    if unknown:
        print(f"cannot measure {', '.join(unknown)}: see scripts/bench --list", file=sys.stderr)
        return 2
    if arguments.list:
        _list()
        return 0
    if arguments.profile:
        _profile(docs=arguments.docs)
        return 0
    found: dict[str, Results] = {}
    if arguments.read:
        for path in arguments.read:
            for name, measured in report.read(path).items():
                found.setdefault(name, {}).update(measured)
    else:
        repetitions = arguments.repetitions or (1 if arguments.quick else 3)
        plan = Plan(arguments.quick, repetitions, Progress())
        with plan.until_the_end:
            for benchmark in BENCHMARKS:
                if not arguments.names or benchmark.name in arguments.names:
                    found[benchmark.name] = _measure(benchmark.name, plan)
    return _report(found, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures the service. Each figure is compared with a limit of the machine "
        "that is measured in the same run. A target says what their ratio must reach. "
        "Exits with 1 if a target was missed.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="run only these benchmarks; --list names them"
    )
    parser.add_argument("--list", action="store_true", help="list the benchmarks and their targets")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run each benchmark once at a small size, to see that it works; targets do not count",
    )
    parser.add_argument(
        "--repetitions", type=int, metavar="N", help="how often to measure each row (default: 3)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument(
        "--markdown", action="store_true", help="print the results as a Markdown table"
    )
    parser.add_argument(
        "--docs", action="store_true", help="replace the table and the plot of docs/performance.md"
    )
    parser.add_argument(
        "--read",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing, but read results that --json wrote",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="run no benchmark, but sample where keeper and server spend a command's CPU time",
    )
    return parser


def _list() -> None:
    for benchmark in BENCHMARKS:
        for row in benchmark.rows:
            target = f"{row.criterion.value} {row.target}"
            print(f"{benchmark.name:<14} {row.name:<26} {target:<26} {row.what}")


def _measure(name: str, plan: Plan) -> Results:
    plan.progress.begin(name)
    measured = BY_NAME[name].measure(plan)
    plan.progress.end()
    missing = [row.name for row in BY_NAME[name].rows if row.name not in measured]
    for line in report.lines({name: measured}):
        print(report.text(line), flush=True)
    if missing:
        print(f"{name}: not measured here: {', '.join(missing)}", flush=True)
    return measured


def _report(found: dict[str, Results], arguments: argparse.Namespace) -> int:
    lines = list(report.lines(found))
    if arguments.json:
        content = json.dumps(
            report.to_json(found, quick=arguments.quick), indent=2, ensure_ascii=False
        )
        arguments.json.write_text(content + "\n")
    if arguments.markdown:
        print(report.table(found))
    if arguments.docs:
        report.put_into_page("table", report.table(found))
        report.PLOT.write_text(plot.ratios(lines))
    if arguments.quick:
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
            plot.StackedBar(f"{process}, {mode}", stages)
            for mode, profile in profiles.items()
            for process, stages in profile.stages.items()
        ]
        path = report.PLOT.with_name("bench-stages.svg")
        path.write_text(plot.stages("CPU per command by stage, µs", stacks))


if __name__ == "__main__":
    sys.exit(main())
