"""Output on the page: live, complete when the server is killed, large and fast."""

import statistics
import time

import pytest
from playwright.sync_api import expect

from support.gates import Gate
from support.page import Task, Visitor
from support.service import PATIENCE_SECONDS, Service, eventually


def test_live_output_with_both_streams(service: Service, visitor: Visitor) -> None:
    first, second = Gate(service), Gate(service)
    command = service.submit(f"echo one; {first.block}; echo two >&2; {second.block}; echo three")
    visitor.open(command["id"])
    visitor.wait_for_row("one")
    first.open()
    rows = visitor.wait_for_row("two")
    assert "three" not in rows
    second.open()
    visitor.wait_for_row("three")
    expect(visitor.page.get_by_text("succeeded").first).to_be_visible()
    # A bar beside the line marks stderr, and each stream can be shown alone.
    marked = visitor.page.locator(".gutter a.stderr")
    expect(marked).to_have_count(1)
    streams = visitor.page.get_by_role("group", name="Streams")
    streams.get_by_role("button", name="stderr").click()
    visitor.eventually(lambda: [row for row in visitor.rows() if row] == ["two"], "stderr alone")
    streams.get_by_role("button", name="stdout").click()
    visitor.eventually(
        lambda: [row for row in visitor.rows() if row] == ["one", "three"], "stdout alone"
    )


def test_progress_and_colours(service: Service, visitor: Visitor) -> None:
    script = r"for n in 1 2 3; do printf '\rdone %s/3' $n; done; printf '\n\033[31mred\033[0m\n'"
    command = service.run(script)
    visitor.open(command["id"])
    rows = visitor.wait_for_row("done 3/3")
    assert "red" in rows
    assert not [row for row in rows if "1/3" in row]
    red = visitor.page.locator(".xterm-rows span", has_text="red").first
    assert red.evaluate("(element) => getComputedStyle(element).color") != "rgb(216, 220, 223)"


def test_each_line_is_shown_once_when_the_server_is_killed(
    service: Service, visitor: Visitor
) -> None:
    gates = [Gate(service) for _ in range(2)]
    steps = [f"seq -f 'line %.0f' {100 * n + 1} {100 * n + 100}" for n in range(3)]
    ends = [*(gate.block for gate in gates), "true"]
    script = "\n".join(f"{step}; {end}" for step, end in zip(steps, ends, strict=True))
    command = service.submit(script)
    visitor.open(command["id"])
    for number, gate in enumerate(gates, 1):
        visitor.wait_for_row(f"line {100 * number}")
        service.close_client()
        service.kill_server()
        gate.open()
    service.wait(command["id"])
    visitor.wait_for_row("line 300")
    expect(visitor.page.get_by_text("succeeded").first).to_be_visible()
    rows = visitor.all_rows("line 1", "line 300")
    assert rows == [f"line {number}" for number in range(1, 301)]


def test_a_lost_connection_is_reported_until_it_is_restored(
    service: Service, visitor: Visitor
) -> None:
    gate = Gate(service)
    command = service.submit(f"echo before; {gate.block}; echo after")
    visitor.open(command["id"])
    visitor.wait_for_row("before")
    visitor.context.set_offline(True)
    service.kill_server()
    banner = visitor.page.get_by_text("Connection lost at")
    expect(banner).to_be_visible()
    assert "before" in visitor.rows()
    visitor.context.set_offline(False)
    expect(banner).to_have_count(0)
    gate.open()
    visitor.wait_for_row("after")


BLOCKED_MILLISECONDS = 200
"""The longest that the page may block, on a typical machine."""
WORK_MILLISECONDS = 50
"""How long `WORK` takes on a typical machine."""
WORK = "() => { let x = 0; for (let i = 0; i < 8e6; i++) x = (x * 31 + i) | 0; return x; }"


def slowness(visitor: Visitor) -> Task:
    """Return how much slower than a typical machine this one is now, at least 1."""
    visitor.begin_trace()
    for _ in range(5):
        visitor.page.evaluate(WORK)
    tasks = sorted(visitor.end_trace(), key=lambda task: task.busy)[-5:]
    return Task(
        max(1.0, statistics.median(task.elapsed for task in tasks) / WORK_MILLISECONDS),
        max(1.0, statistics.median(task.busy for task in tasks) / WORK_MILLISECONDS),
    )


@pytest.mark.parametrize(
    "parts",
    [
        # More lines than the terminal keeps.
        50,
        pytest.param(200, marks=pytest.mark.long),
    ],
)
def test_fast_output_does_not_block_the_page(
    service: Service, visitor: Visitor, parts: int
) -> None:
    script = f"""
        for part in $(seq 0 {parts - 1}); do
            seq -f 'line %.0f of many, with some more text to make it a usual one' \
                $((part * 500 + 1)) $((part * 500 + 500))
            sleep 0.1
        done
    """
    elapsed = []
    visitor.page.emulate_media(reduced_motion="no-preference")
    visitor.page.goto("/")
    # Other processes may delay the page, but hardly in all three rounds. So one round must have a
    # short elapsed time, and every round must have short CPU times.
    for _ in range(3):
        before = slowness(visitor)
        command = service.submit(script)
        visitor.open(command["id"])
        visitor.eventually(lambda: any("line" in row for row in visitor.rows()), "the first lines")
        visitor.begin_trace()
        service.wait(command["id"])
        last = f"line {parts * 500} of many, with some more text to make it a usual one"
        visitor.wait_for_row(last)
        tasks = visitor.end_trace()
        after = slowness(visitor)
        assert len(tasks) > 500
        slow = max(before.busy, after.busy)
        assert max(task.busy for task in tasks) <= BLOCKED_MILLISECONDS * slow
        slow = max(before.elapsed, after.elapsed)
        elapsed.append(max(task.elapsed for task in tasks) / slow)
        if elapsed[-1] <= BLOCKED_MILLISECONDS:
            break
    assert min(elapsed) <= BLOCKED_MILLISECONDS
    # Scrolling up stops following.
    visitor.key("PageUp")
    expect(visitor.page.get_by_role("button", name="go to the end")).to_be_visible()


def opening_seconds(visitor: Visitor, command: str, last: str) -> float:
    """Return how long the page takes to show the last row of a finished command."""
    visitor.page.goto("/")
    start = time.monotonic()
    visitor.page.goto(f"/commands/{command}")
    visitor.wait_for_row(last)
    return time.monotonic() - start


@pytest.mark.parametrize(
    "size",
    [
        # Several times what the page keeps in memory.
        16 << 20,
        pytest.param(1 << 30, marks=pytest.mark.long),
    ],
)
def test_a_large_output_opens_at_its_end_and_anywhere(
    service: Service, visitor: Visitor, size: int
) -> None:
    line = "%012.0f " + "x" * 50
    count = size // 64
    command = service.submit(f"seq -f '{line}' 0 {count - 1}")["id"]
    found = service.wait(command, 10 * PATIENCE_SECONDS)
    assert found["output"]["bytes"] == size

    def row(number: int) -> str:
        return f"{number:012d} " + "x" * 50

    # The page must open as fast as for a single line. The fastest of several attempts counts.
    small = service.run("echo only")["id"]
    small_seconds: list[float] = []
    large_seconds: list[float] = []
    while len(large_seconds) < 3 or (
        min(large_seconds) >= 5 * min(small_seconds) and len(large_seconds) < 12
    ):
        small_seconds.append(opening_seconds(visitor, small, "only"))
        large_seconds.append(opening_seconds(visitor, command, row(count - 1)))
    assert min(large_seconds) < 5 * min(small_seconds)
    # Any part is reachable: by a link to a position, at the start, by the slider.
    for part in (3, 7):
        number = count * part // 10
        visitor.page.goto("/")
        visitor.open(command, f"#p={number * 64}")
        visitor.wait_for_row(row(number))
    visitor.key("g")
    visitor.wait_for_row(row(0))
    slider = visitor.page.get_by_role("slider", name="Position in the output")
    box = slider.bounding_box()
    assert box is not None
    visitor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def middle() -> bool:
        numbers = [int(text[:12]) for text in visitor.rows() if text[:12].isdigit()]
        return bool(numbers) and abs(numbers[0] - count // 2) < count // 50

    visitor.eventually(middle, "the middle to be shown")
    # The search covers the loaded output, and the page says so.
    visitor.key("G")
    visitor.wait_for_row(row(count - 1))
    visitor.key("/")
    visitor.page.get_by_label("Find in the output").fill(f"{count - 40:012d}")
    expect(visitor.page.get_by_text("in the loaded")).to_be_visible()
    visitor.wait_for_row(row(count - 40))
    visitor.page.keyboard.press("Escape")
    # The API returns all of it unchanged.
    assert (
        eventually(lambda: service.bytes_of(command, tail=64), "the end")
        .decode()
        .startswith(f"{count - 1:012d}")
    )


def test_replay_with_recorded_timing(service: Service, visitor: Visitor) -> None:
    command = service.run("for n in 1 2 3 4; do echo step $n; sleep 0.4; done")["id"]
    visitor.open(command)
    visitor.wait_for_row("step 4")
    visitor.page.get_by_role("button", name="More").click()
    visitor.keep_screens()
    visitor.page.get_by_role("button", name="Replay with recorded timing").click()

    def replayed() -> bool:
        screens = visitor.kept_screens()
        starts = [
            number
            for number, rows in enumerate(screens)
            if "step 1" in rows and "step 4" not in rows
        ]
        return bool(starts) and any("step 4" in rows for rows in screens[starts[0] :])

    visitor.eventually(replayed, "the start of the replay, then its end")
