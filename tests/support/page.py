"""Somebody who looks at the page: a browser window, and what went wrong in it."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    ViewportSize,
    expect,
)

from support.service import PATIENCE_SECONDS, Service, eventually

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"

# What a page needs is the machine's to say; five seconds are its own default.
expect.set_options(timeout=PATIENCE_SECONDS * 1000)

VIEWPORT: ViewportSize = {"width": 1280, "height": 800}
LOOK_MILLISECONDS = 100
"""So long pass between two looks at the page: each costs it, the browser and the test."""

WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) =>
    window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

FAULTS = "axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations)"

ROWS = ".screen:not([style*='hidden']) .xterm-rows > div"

KEEP_SCREENS = f"""() => {{
    window.screens = [];
    new MutationObserver(() => {{
        const rows = [...document.querySelectorAll("{ROWS}")];
        window.screens.push(rows.map((row) => row.textContent));
    }}).observe(document.body, {{ childList: true, subtree: true, characterData: true }});
}}"""


class Task(NamedTuple):
    """What the page's main thread did in one piece.

    Attributes:
        elapsed: how long it took, in milliseconds.
        busy: how much of that the thread was on a processor; the rest it waited, be it for a
            processor that the machine had given to others.
    """

    elapsed: float
    busy: float


class Visitor:
    """One browser window on a service.

    Args:
        browser: it belongs to.
        service: that it looks at.
        options: of the window, such as ``color_scheme`` or ``viewport``.
    """

    def __init__(self, browser: Browser, service: Service, **options: Any) -> None:
        self.service = service
        # Without what moves by itself: to draw it again and again costs more than most tests.
        usual: dict[str, Any] = {"viewport": VIEWPORT, "reduced_motion": "reduce"}
        self.context: BrowserContext = browser.new_context(
            base_url=service.url, **{**usual, **options}
        )
        self.context.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.context.add_init_script(WATCH)
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))

    def _said(self, message: ConsoleMessage) -> None:
        # That an answer was 401 or did not come is what some tests are about.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(f"console: {message.text}")

    def sign_in(self, path: str = "/") -> "Visitor":
        """Sign in with the token, and be on a page."""
        self.page.goto(path)
        self.page.get_by_label("Token").fill(self.service.token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        return self

    @contextlib.contextmanager
    def signed_out(self) -> Iterator[None]:
        """Be nobody for the time of a ``with``; the session goes on afterwards."""
        cookies = self.context.cookies()
        self.context.clear_cookies()
        try:
            yield
        finally:
            self.context.add_cookies(cookies)  # type: ignore[arg-type]

    def open(self, command: str, hash: str = "") -> Locator:  # noqa: A002
        """Look at a command; return its terminal."""
        self.page.goto(f"/commands/{command}{hash}")
        terminal = self.page.locator(".xterm-rows")
        expect(terminal.first).to_be_attached()
        return terminal

    def rows(self) -> list[str]:
        """Return the rows of the terminal that are visible, without blanks at their ends."""
        texts = self.page.locator(ROWS)
        found: list[str] = texts.all_text_contents()
        return [text.replace("\xa0", " ").rstrip() for text in found]

    def wait_for_row(self, wanted: str, seconds: float = PATIENCE_SECONDS) -> list[str]:
        """Wait until a row is exactly this; return all that are visible then."""

        def there() -> list[str]:
            rows = self.rows()
            return rows if wanted in rows else []

        return list(self.eventually(there, f"the row {wanted!r}", seconds))

    def key(self, name: str) -> None:
        """Press a key where no field has the focus."""
        self.page.keyboard.press(name)

    def all_rows(self, first: str, last: str) -> list[str]:
        """Return all rows, by paging through them from the start.

        Args:
            first: the first row, which is not visible yet.
            last: the last one that is not empty.
        """
        self.key("g")
        rows = self.wait_for_row(first)
        seen = list(rows)
        while last not in rows:
            before = rows
            self.key("PageDown")
            self.eventually(lambda before=before: self.rows() != before, "the next page")
            rows = self.rows()
            seen += _continued(seen, rows)
        while seen and not seen[-1]:
            seen.pop()
        return seen

    def keep_screens(self) -> None:
        """Begin to keep what the terminal shows at each of its changes."""
        self.page.evaluate(KEEP_SCREENS)

    def kept_screens(self) -> list[list[str]]:
        """Return the rows of each screen that was kept."""
        found: list[list[str]] = self.page.evaluate("window.screens")
        return [[text.replace("\xa0", " ").rstrip() for text in rows] for rows in found]

    def eventually(
        self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS
    ) -> Any:
        """Wait for a condition while the page goes on."""

        def checked() -> Any:
            found = condition()
            if not found:
                self.page.wait_for_timeout(LOOK_MILLISECONDS)
            return found

        return eventually(checked, what, seconds)

    def begin_trace(self) -> None:
        """Begin to record what the page's main thread does."""
        browser = self.context.browser
        assert browser is not None
        browser.start_tracing(page=self.page, categories=["toplevel"])

    def end_trace(self) -> list[Task]:
        """Return what the main threads of pages have done since the recording began."""
        browser = self.context.browser
        assert browser is not None
        events = json.loads(browser.stop_tracing())["traceEvents"]
        main = {
            (event["pid"], event["tid"])
            for event in events
            if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
        }
        return [
            Task(event["dur"] / 1000, event["tdur"] / 1000)
            for event in events
            if event["name"] == "ThreadControllerImpl::RunTask"
            and (event["pid"], event["tid"]) in main
            # One that had begun before the recording, or goes on after it, has no length.
            and "tdur" in event
        ]

    def serious_faults(self) -> list[str]:
        """Return what axe-core finds that is serious or worse."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate(FAULTS)
        return [
            f"{fault['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    def leave(self) -> None:
        """Judge the window, and have it empty as at the beginning; whoever signed in still is."""
        violations = self._violations()
        self.page.unroute_all()
        self.context.set_offline(False)
        self.page.evaluate("localStorage.clear()")
        self.page.evaluate("sessionStorage.clear()")
        self.page.goto("about:blank")
        self.page.emulate_media(color_scheme="light", reduced_motion="reduce")
        self.page.set_viewport_size(VIEWPORT)
        self._judge(violations)

    def close(self) -> None:
        """Close the window; whatever went wrong in it is a failure."""
        violations = self._violations()
        self.context.close()
        self._judge(violations)

    def _violations(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.violations ?? []")
        return found

    def _judge(self, violations: list[str]) -> None:
        wrong, self.wrong = self.wrong, []
        assert wrong == []
        assert violations == []


def _continued(seen: list[str], rows: list[str]) -> list[str]:
    """Return what a screenful adds to what was seen; it may overlap with its end."""
    for overlap in range(min(len(seen), len(rows)), 0, -1):
        if seen[-overlap:] == rows[:overlap]:
            return rows[overlap:]
    return rows
