"""The reference of the API: its own files only, submit first, requests with the page's session."""

from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Page, ViewportSize, expect

from support.page import Visitor
from support.service import Service

PHONE: ViewportSize = {"width": 375, "height": 812}
LIBRARY_FAULTS = ("nested-interactive", "scrollable-region-focusable", "select-name", "label")
"""The faults in the markup of Swagger UI, which only its authors can mend."""

TOO_WIDE = """() => [...document.querySelectorAll('body, body *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
    .filter((element) => !element.closest('pre'))
    .map((element) => `${element.tagName}.${element.className}`).slice(0, 9)"""


def open_docs(visitor: Visitor) -> Page:
    """Open the reference; return the page once the operation to submit is open."""
    visitor.page.goto("/docs")
    expect(visitor.page.locator(".opblock.is-open")).to_contain_text("Submit a script")
    return visitor.page


def assert_no_faults(visitor: Visitor) -> None:
    """Assert that the colours have enough contrast, and that nothing of ours is inaccessible."""
    found = visitor.serious_faults()
    assert [fault for fault in found if not fault.startswith(LIBRARY_FAULTS)] == []


def test_the_reference_loads_only_its_own_files_and_fits_a_phone(
    service: Service, visit: Callable[..., Visitor]
) -> None:
    visitor = visit(viewport=PHONE)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    page = open_docs(visitor)
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {
        urlsplit(service.url).netloc
    }
    expect(page.locator(".opblock")).to_have_count(18)
    expect(page.locator(".opblock").first).to_contain_text("Submit a script")
    expect(page.get_by_role("link", name="sign in", exact=True)).to_be_visible()
    page.locator("#operations-commands-listCommands .opblock-summary-control").click()
    expect(page.locator(".opblock.is-open")).to_have_count(2)
    page.get_by_role("button", name="Try it out").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.evaluate(TOO_WIDE) == []
    assert_no_faults(visitor)


def test_a_request_is_tried_with_the_session_of_the_page(
    service: Service, visit: Callable[..., Visitor]
) -> None:
    visitor = visit(color_scheme="dark").sign_in()
    page = open_docs(visitor)
    expect(page.get_by_text("Signed in as admin")).to_be_visible()
    opened = page.locator(".opblock.is-open")
    opened.get_by_role("button", name="Try it out").click()
    opened.locator("textarea.body-param__text").fill('{"script": "true", "name": "from the docs"}')
    opened.get_by_role("button", name="Execute").click()
    expect(opened.locator(".live-responses-table .response-col_status").last).to_contain_text("201")
    (found,) = service.client.get("/v1/commands", params={"q": "from the docs"}).json()["items"]
    assert service.wait(found["id"])["status"] == "succeeded"
    assert "X-CSRF-Token" not in opened.inner_text()
    assert_no_faults(visitor)
