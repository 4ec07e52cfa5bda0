"""A real Chromium against the real service, with the page as it is built and shipped."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from support.needs import require
from support.page import Visitor
from support.service import Service

SCRIPTS = Path(__file__).parents[2] / "scripts"
FLAGS = [
    # The tests may run as root, for whom Chromium has no sandbox of its own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser, and the page as it is now: ``scripts/test`` has built it before.

    Not for longer than a module: its driver keeps an event loop running in this thread, and other
    suites have loops of their own.
    """
    require("browser")
    subprocess.run([str(SCRIPTS / "build-page")], check=True, timeout=600)
    found = subprocess.run(
        [str(SCRIPTS / "browser")], check=True, capture_output=True, text=True, timeout=600
    )
    with sync_playwright() as running:
        launched = running.chromium.launch(executable_path=found.stdout.strip(), args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Callable[..., Visitor]]:
    """Opens windows on the service, or on another; they are closed, and judged, after the test."""
    opened: list[Visitor] = []

    def open_window(at: Service = service, **options: Any) -> Visitor:
        opened.append(Visitor(browser, at, **options))
        return opened[-1]

    yield open_window
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def window(browser: Browser, service: Service) -> Iterator[Visitor]:
    """A window where somebody has signed in: a new one costs more than most tests."""
    opened = Visitor(browser, service).sign_in()
    yield opened
    opened.close()


@pytest.fixture
def visitor(window: Visitor) -> Iterator[Visitor]:
    """Somebody who has signed in; the window is empty, and is judged after the test."""
    yield window
    window.leave()
