"""``scripts/bench``: every benchmark runs, and what it says follows from what was measured."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import plot, report, stages
from bench.measure import Criterion, Direction, Plan, Progress, Series, Target
from bench.registry import BENCHMARKS
from support.service import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"
ROWS = {(each.name, row.name) for each in BENCHMARKS for row in each.rows}


def bench(*words: str, seconds: float = PATIENCE_SECONDS) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [BENCH, *words], capture_output=True, text=True, timeout=seconds, check=False
    )


def series_for(row: Any, share: float) -> Series:
    """Return what would be measured where a row is so far on the way to its target."""
    target = row.target
    at_least = target.direction is Direction.AT_LEAST
    value = target.bound * share if at_least else target.bound / share
    return Series([value, value * 2, value / 2], [1.0, 1.0, 1.0] if row.limit else [])


def everything(share: float) -> dict[str, dict[str, Series]]:
    return {
        each.name: {row.name: series_for(row, share) for row in each.rows} for each in BENCHMARKS
    }


def written(found: dict[str, dict[str, Series]], path: Path) -> str:
    path.write_text(json.dumps(report.to_json(found, quick=False)))
    return str(path)


@pytest.mark.long
@pytest.mark.needs_compiler
def test_every_benchmark_runs_quickly_and_judges_nothing(tmp_path: Path) -> None:
    done = bench("--quick", "--json", str(tmp_path / "found.json"), seconds=10 * PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "found.json").read_text())
    found = {(name, row) for name, rows in told["benchmarks"].items() for row in rows}
    # Another user's scripts are for root to start.
    here = {pair for pair in ROWS if os.geteuid() == 0 or "another uid" not in pair[1]}
    assert found == here
    assert told["judged"] is False
    for rows in told["benchmarks"].values():
        for row in rows.values():
            assert row["figure"] > 0
            assert row["met"] is None
            assert len(row["figures"]) == 1
            assert (row["ratio"] is None) == (row["limited_by"] is None)


def test_the_list_names_all_with_what_they_must_reach() -> None:
    listed = bench("--list").stdout.splitlines()
    assert len(listed) == len(ROWS)
    for line, (name, row) in zip(
        listed, ((each.name, row) for each in BENCHMARKS for row in each.rows), strict=True
    ):
        assert line.startswith(name)
        assert row.name in line
        assert str(row.target) in line


def test_a_name_that_there_is_not_is_refused() -> None:
    done = bench("--quick", "speed")
    assert done.returncode == 2
    assert done.stderr == "cannot measure speed: see scripts/bench --list\n"


@pytest.mark.parametrize(("share", "code"), [(1.0, 0), (0.9, 1)])
def test_what_misses_its_target_is_told(tmp_path: Path, share: float, code: int) -> None:
    path = written(everything(share), tmp_path / "found.json")
    done = bench("--markdown", "--read", path)
    assert done.returncode == code, done.stdout + done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(table) == len(ROWS) + 1
    assert all(("missed" in line) == bool(code) for line in table[1:])


def test_files_of_several_runs_are_read_as_one_and_the_last_counts(tmp_path: Path) -> None:
    good, bad = everything(1.0), everything(0.5)
    first = written(good, tmp_path / "first.json")
    second = written({"output-many": bad["output-many"]}, tmp_path / "second.json")
    done = bench("--read", first, second)
    assert (done.returncode, done.stdout) == (1, "missed: output-many, many\n")


def test_limit_and_service_are_measured_in_turn() -> None:
    order: list[str] = []

    def measured(name: str, value: float) -> float:
        order.append(name)
        return value

    plan = Plan(quick=False, repetitions=3, progress=Progress())
    found = plan.interleaved("x", lambda: measured("limit", 8), lambda: measured("service", 2))
    assert order == ["limit", "service"] * 3
    assert (found.ratio, found.ratios) == (0.25, [0.25] * 3)


def test_a_target_has_a_side() -> None:
    least, most = Target(0.5, aim=0.6), Target(2, Direction.AT_MOST)
    assert [least.is_met(value) for value in (0.49, 0.5, 1)] == [False, True, True]
    assert [most.is_met(value) for value in (1, 2, 2.1)] == [True, True, False]
    assert (least.share(0.25), most.share(4)) == (0.5, 0.5)
    assert Series([1, 3, 2], [4, 4, 4]).value(Criterion.RATIO) == 0.5
    assert Series([1, 3, 2], [4, 4, 4]).value(Criterion.FIGURE) == 2


def test_plots_are_whole_and_name_every_row() -> None:
    drawn = ElementTree.fromstring(plot.ratios(list(report.lines(everything(0.5)))))
    texts = ["".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {f"{name}, {row}" for name, row in ROWS} <= set(texts)
    drawn_stages = plot.stages(
        "CPU <µs>", [plot.StackedBar("a & b", {f"part {n}": n + 1.0 for n in range(20)})]
    )
    texts = ["".join(each.itertext()) for each in ElementTree.fromstring(drawn_stages).iter()]
    assert "the rest: 66" in texts


def test_every_module_that_the_profile_names_exists() -> None:
    modules = {path.stem for path in (ROOT / "src").rglob("*.py")}
    rules = [*stages.WRITER, *stages.SERVER, *stages.KEEPER]
    ours = [rule.pattern for _, rule in rules if "scriptservice/" in rule.pattern]
    frames = [f"function ({path}:1)" for path in (ROOT / "src").rglob("*.py")]
    for pattern in ours:
        assert any(re.search(pattern, frame) for frame in frames), pattern
        (group,) = re.findall(r"([\w|]+)\)?\\.py", pattern) or [""]
        assert set(filter(None, group.split("|"))) <= modules, pattern
