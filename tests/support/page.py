"""A visitor of the web page: a browser window, and the errors that happened in it."""

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

# Playwright's default of five seconds is too short for a slow machine.
expect.set_options(timeout=PATIENCE_SECONDS * 1000)

VIEWPORT: ViewportSize = {"width": 1280, "height": 800}
LOOK_MILLISECONDS = 100
"""The pause between two looks at the page, since each look takes CPU time of browser and test."""

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
    """One task of the page's main thread.

    Attributes:
        elapsed: how long it took, in milliseconds.
        busy: how many of these milliseconds the thread was on a processor. The rest of the time it
            waited, for example for a processor.
    """

    elapsed: float
    busy: float


class Visitor:
    """One browser window that shows the page of a service.

    Args:
        browser: the browser of the window.
        service: the service.
        options: options of the window, such as ``color_scheme`` or ``viewport``.

    Attributes:
        wrong: console errors and uncaught exceptions so far.
    """

    def __init__(self, browser: Browser, service: Service, **options: Any) -> None:
        self.service = service
        # Without animations, since drawing them takes more CPU time than most tests.
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
        # Some tests provoke a 401 answer or a broken connection.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(f"console: {message.text}")

    def sign_in(self, path: str = "/") -> "Visitor":
        """Open a page and sign in with the token."""
        self.page.goto(path)
        self.page.get_by_label("Token").fill(self.service.token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        return self

    @contextlib.contextmanager
    def signed_out(self) -> Iterator[None]:
        """Be signed out while the ``with`` block runs; afterwards the session continues."""
        cookies = self.context.cookies()
        self.context.clear_cookies()
        try:
            yield
        finally:
            self.context.add_cookies(cookies)  # type: ignore[arg-type]

    def open(self, command: str, hash: str = "") -> Locator:  # noqa: A002
        """Open the page of a command; return its terminal."""
        self.page.goto(f"/commands/{command}{hash}")
        terminal = self.page.locator(".xterm-rows")
        expect(terminal.first).to_be_attached()
        return terminal

    def rows(self) -> list[str]:
        """Return the visible rows of the terminal, without trailing blanks."""
        texts = self.page.locator(ROWS)
        found: list[str] = texts.all_text_contents()
        return [text.replace("\xa0", " ").rstrip() for text in found]

    def wait_for_row(self, wanted: str, seconds: float = PATIENCE_SECONDS) -> list[str]:
        """Wait until a row is exactly ``wanted``; return all visible rows."""

        def there() -> list[str]:
            rows = self.rows()
            return rows if wanted in rows else []

        return list(self.eventually(there, f"the row {wanted!r}", seconds))

    def key(self, name: str) -> None:
        """Press a key."""
        self.page.keyboard.press(name)

    def all_rows(self, first: str, last: str) -> list[str]:
        """Return all rows by paging through the terminal from the start.

        Args:
            first: the first row, which is not visible yet.
            last: the last row that is not empty.
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
        """Start to keep what the terminal shows after each of its changes."""
        self.page.evaluate(KEEP_SCREENS)

    def kept_screens(self) -> list[list[str]]:
        """Return the rows of each screen that was kept."""
        found: list[list[str]] = self.page.evaluate("window.screens")
        return [[text.replace("\xa0", " ").rstrip() for text in rows] for rows in found]

    def eventually(
        self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS
    ) -> Any:
        """Wait for a condition while the page's own events are handled."""

        def checked() -> Any:
            found = condition()
            if not found:
                self.page.wait_for_timeout(LOOK_MILLISECONDS)
            return found

        return eventually(checked, what, seconds)

    def begin_trace(self) -> None:
        """Start to trace the tasks of the page's main thread."""
        browser = self.context.browser
        assert browser is not None
        browser.start_tracing(page=self.page, categories=["toplevel"])

    def end_trace(self) -> list[Task]:
        """Stop the trace; return the tasks of the main threads of all pages."""
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
            # A task that began before the trace, or ends after it, has no duration.
            and "tdur" in event
        ]

    def serious_faults(self) -> list[str]:
        """Return the accessibility faults that axe-core calls serious or critical."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate(FAULTS)
        return [
            f"{fault['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    def leave(self) -> None:
        """Reset the window for the next test, still signed in; assert that nothing went wrong."""
        violations = self._violations()
        self.page.unroute_all()
        self.context.set_offline(False)
        self.page.evaluate("localStorage.clear()")
        self.page.evaluate("sessionStorage.clear()")
        self.page.goto("about:blank")
        self.page.emulate_media(color_scheme="light", reduced_motion="reduce")
        self.page.set_viewport_size(VIEWPORT)
        self._assert_nothing_wrong(violations)

    def close(self) -> None:
        """Close the window; assert that nothing went wrong in it."""
        violations = self._violations()
        self.context.close()
        self._assert_nothing_wrong(violations)

    def _violations(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.violations ?? []")
        return found

    def _assert_nothing_wrong(self, violations: list[str]) -> None:
        wrong, self.wrong = self.wrong, []
        assert wrong == [], wrong
        assert violations == []


def _continued(seen: list[str], rows: list[str]) -> list[str]:
    """Return the rows of a screen that come after the rows seen so far, which may overlap."""
    for overlap in range(min(len(seen), len(rows)), 0, -1):
        if seen[-overlap:] == rows[:overlap]:
            return rows[overlap:]
    return rows
