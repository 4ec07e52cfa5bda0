"""The reference of the API: its own files only, submit first, requests with the page's session."""

from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from support.page import Visitor
from support.service import Service

PHONE: ViewportSize = {"width": 375, "height": 812}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LIBRARY_FAULTS = ("nested-interactive", "scrollable-region-focusable", "select-name", "label")
"""The faults in the markup of Swagger UI, which only its authors can mend."""

TOO_WIDE = """() => [...document.querySelectorAll('body, body *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
    .filter((element) => !element.closest('pre'))
    .map((element) => `${element.tagName}.${element.className}`).slice(0, 9)"""


@pytest.fixture(scope="module")
def docs(browser: Browser, service: Service) -> Iterator[Visitor]:
    """A phone with a session that shows the reference. Opening it takes longer than the tests."""
    visitor = Visitor(browser, service, viewport=PHONE)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    signed_in = visitor.context.request.post("/v1/session", data={"token": service.token})
    assert signed_in.ok
    visitor.page.goto("/docs")
    expect(visitor.page.locator(".opblock.is-open")).to_contain_text("Submit a script")
    yield visitor
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith("data:")}
    assert hosts == {urlsplit(service.url).netloc}
    visitor.close()  # this also asserts that nothing violated the policy


def test_the_reference_starts_with_submit_and_has_every_operation(docs: Visitor) -> None:
    operations = docs.page.locator(".opblock")
    expect(operations).to_have_count(21)
    expect(operations.first).to_contain_text("Submit a script")
    expect(docs.page.locator(".opblock.is-open")).to_have_count(1)


def test_a_request_is_tried_with_the_session_of_the_page(docs: Visitor, service: Service) -> None:
    expect(docs.page.get_by_text("Signed in as admin")).to_be_visible()
    opened = docs.page.locator(".opblock.is-open")
    opened.get_by_role("button", name="Try it out").click()
    opened.locator("textarea.body-param__text").fill('{"script": "true", "name": "from the docs"}')
    opened.get_by_role("button", name="Execute").click()
    expect(opened.locator(".live-responses-table .response-col_status").last).to_contain_text("201")
    (found,) = service.client.get("/v1/commands", params={"q": "from the docs"}).json()["items"]
    assert service.wait(found["id"])["status"] == "succeeded"
    assert "X-CSRF-Token" not in opened.inner_text()


def test_the_reference_fits_a_phone_and_has_enough_contrast(docs: Visitor) -> None:
    assert docs.page.evaluate(TOO_WIDE) == []
    assert docs.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for scheme in SCHEMES:
        docs.page.emulate_media(color_scheme=scheme)
        dark = docs.page.locator("html.dark-mode")
        expect(dark).to_have_count(1 if scheme == "dark" else 0)
        found = docs.serious_faults()
        assert [fault for fault in found if not fault.startswith(LIBRARY_FAULTS)] == [], scheme
