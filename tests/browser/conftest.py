"""Fixtures for tests in a real Chromium against the real service and the built page."""

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
    # The tests may run as root, and Chromium's sandbox does not work as root.
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
    """Build the page if its sources changed, and start a browser.

    The scope is a module, because Playwright keeps an event loop running in this thread and other
    suites need loops of their own.
    """
    require("browser")
    subprocess.run([str(SCRIPTS / "build-page")], check=True, timeout=600)
    located = subprocess.run(
        [str(SCRIPTS / "browser")], check=True, capture_output=True, text=True, timeout=600
    )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=located.stdout.strip(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Callable[..., Visitor]]:
    """A function that opens a window on a service. After the test each is checked and closed."""
    opened: list[Visitor] = []

    def open_window(target: Service = service, **options: Any) -> Visitor:
        opened.append(Visitor(browser, target, **options))
        return opened[-1]

    yield open_window
    for visitor in opened:
        visitor.close()


@pytest.fixture(scope="module")
def window(browser: Browser, service: Service) -> Iterator[Visitor]:
    """A signed-in window, shared by a module: opening one takes longer than most tests."""
    opened = Visitor(browser, service).sign_in()
    yield opened
    opened.close()


@pytest.fixture
def visitor(window: Visitor) -> Iterator[Visitor]:
    """The signed-in window, reset and checked after the test."""
    yield window
    window.leave()
