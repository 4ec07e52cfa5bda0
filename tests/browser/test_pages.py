"""The pages as people use them: sign in, submit, find, stop and rerun, by mouse and keyboard."""

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from playwright.sync_api import Route, expect

from support.page import Visitor
from support.service import Service, eventually


def items_of(service: Service, **query: str) -> list[dict[str, Any]]:
    """Return the commands that match a query. The service also has those of other tests."""
    found: list[dict[str, Any]] = service.client.get("/v1/commands", params=query).json()["items"]
    return found


def test_signing_in_and_out(service: Service, visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    page.goto("/")
    page.get_by_label("Token").fill("ss_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visitor.sign_in()
    # Scripts cannot read the token or the session from any storage.
    stored = page.evaluate(
        "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"
    )
    assert service.token not in stored
    assert "session" not in stored
    (cookie,) = visitor.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    # The session survives a restart of the server.
    service.kill_server()
    service.wait_until_serving()
    page.reload()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    # The next person at this tab does not see the draft of a command.
    page.get_by_role("link", name="New", exact=True).click()
    page.get_by_label("Name", exact=True).fill("a draft")
    assert page.evaluate("sessionStorage.length") == 1
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    visitor.eventually(lambda: page.evaluate("sessionStorage.length") == 0, "no draft")
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def test_the_sign_in_link_works_once(own_service: Service, visit: Callable[..., Visitor]) -> None:
    printed = own_service.output
    found = eventually(lambda: re.search(r"http://\S+/#code=\S+", printed()), "the link")
    visitor = visit(own_service)
    visitor.page.goto(found.group())
    expect(visitor.page.get_by_role("button", name="Sign out")).to_be_visible()
    assert "code" not in visitor.page.url
    with visitor.signed_out():
        visitor.page.goto("about:blank")  # so that the link loads the page again
        visitor.page.goto(found.group())
        expect(visitor.page.get_by_label("Token")).to_be_visible()


def test_an_empty_list_shows_how_to_start_and_new_commands_appear(
    own_service: Service, visit: Callable[..., Visitor]
) -> None:
    page = visit(own_service).sign_in().page
    expect(page.get_by_text(own_service.url).first).to_be_visible()
    command = own_service.submit("sleep 3600", name="long one", labels={"team": "db"})
    row = page.locator(f"[data-id='{command['id']}']")
    expect(row.get_by_role("link", name="long one")).to_be_visible()
    expect(row).to_contain_text("running")
    # Stop asks for confirmation in the row.
    row.get_by_role("button", name="Stop long one").click()
    row.get_by_label("SIGTERM now, SIGKILL after").fill("5")
    row.get_by_role("button", name="Stop", exact=True).click()
    expect(row).to_contain_text("stopped")
    assert own_service.wait(command["id"])["status"] == "stopped"
    row.get_by_role("button", name="Rerun long one").click()
    row.get_by_role("button", name="Rerun", exact=True).click()
    expect(page.get_by_role("link", name="long one")).to_have_count(2)


def test_a_rerun_with_a_lost_response_creates_one_command(
    service: Service, visitor: Visitor
) -> None:
    page = visitor.page
    command = service.run("true", name="once", labels={"about": "answers"})
    page.goto(f"/commands/{command['id']}")

    def lose_response(route: Route) -> None:
        assert route.fetch().status == 201
        route.abort()

    page.route("**/rerun", lose_response)
    ask = page.get_by_role("button", name="Rerun once")
    rerun = page.get_by_role("button", name="Rerun", exact=True)
    ask.click()
    rerun.click()
    expect(page.get_by_text("Cannot rerun")).to_be_visible()
    rerun.click()
    expect(rerun).to_be_enabled()
    page.unroute("**/rerun")
    rerun.click()
    page.wait_for_url(lambda url: command["id"] not in url)
    assert len(items_of(service, label="about=answers")) == 2
    # After a response, the next click creates another command.
    page.goto(f"/commands/{command['id']}")
    ask.click()
    rerun.click()
    page.wait_for_url(lambda url: command["id"] not in url)
    assert len(items_of(service, label="about=answers")) == 3


def test_a_new_command_from_the_form(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    page.goto("/")
    page.get_by_role("link", name="New", exact=True).click()
    editor = page.locator(".cm-content")
    editor.click()
    page.keyboard.insert_text('echo "$1 $PLACE"; exit 3')
    page.get_by_label("Name", exact=True).fill("from the form")
    page.get_by_role("button", name="Add argument").click()
    page.get_by_label(re.compile(r"\$1|Argument 1")).fill("it's $HOME")
    page.get_by_label("NAME 1").fill("PLACE")
    page.get_by_label("value 1").last.fill("here")
    expect(page.get_by_text("curl").first).to_be_visible()
    page.get_by_role("button", name="Run", exact=True).click()
    visitor.wait_for_row("it's $HOME here")
    expect(page.get_by_text("exit 3").first).to_be_visible()
    (item,) = items_of(service, q="from the form")
    assert item["name"] == "from the form"
    command = service.get(item["id"])
    assert command["args"] == ["it's $HOME"]
    assert command["env"] == {"PLACE": "here"}


def test_filters_are_in_the_address(service: Service, visitor: Visitor) -> None:
    good = service.run("true", name="good one", labels={"team": "db"})["id"]
    bad = service.run("exit 3", name="bad one", labels={"team": "web"})["id"]
    page = visitor.page
    page.goto("/?status=failed")
    expect(page.locator(f"[data-id='{bad}']")).to_be_visible()
    expect(page.locator(f"[data-id='{good}']")).to_have_count(0)
    page.goto("/")
    page.locator(f"[data-id='{good}']").get_by_text("team=db").click()
    expect(page.locator(f"[data-id='{bad}']")).to_have_count(0)
    assert "team" in page.url
    page.reload()
    expect(page.locator(f"[data-id='{good}']")).to_be_visible()
    expect(page.locator(f"[data-id='{bad}']")).to_have_count(0)
    page.goto("/?q=bad")
    expect(page.locator(f"[data-id='{bad}']")).to_be_visible()
    expect(page.locator(f"[data-id='{good}']")).to_have_count(0)


PAGE_SIZE = 50


def test_pages_of_the_list(service: Service, visitor: Visitor) -> None:
    count = 2 * PAGE_SIZE + 1
    for number in range(count):
        service.submit("true", name=f"number {number:03d}", labels={"list": "long"})
    page = visitor.page
    page.goto("/?label=list=long")
    expect(page.get_by_role("link", name=f"number {count - 1}")).to_be_visible()
    seen: list[str] = []
    while True:
        rows = page.locator("[data-id]")
        expect(rows.first).to_be_visible()
        seen += rows.evaluate_all("(rows) => rows.map((row) => row.dataset.id)")
        older = page.get_by_role("button", name="Older →")
        if older.is_disabled():
            break
        first = rows.first.get_attribute("data-id")
        older.click()
        visitor.eventually(
            lambda rows=rows, first=first: rows.first.get_attribute("data-id") != first, "a page"
        )
    assert len(seen) == len(set(seen)) == count


def test_the_keyboard_reaches_everything(service: Service, visitor: Visitor) -> None:
    service.run("echo second", name="key second")
    service.run("echo first", name="key first")
    page = visitor.page
    page.goto("/")
    expect(page.get_by_role("link", name="key first")).to_be_visible()
    visitor.key("j")
    visitor.key("j")
    visitor.key("Enter")
    visitor.wait_for_row("second")
    page.go_back()
    expect(page.get_by_role("link", name="key first")).to_be_visible()
    visitor.key("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    visitor.key("n")
    expect(page.locator(".cm-content")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("link", name="key first")).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.type("key second")
    # Enter comes before the results, so the typed text counts and not what is still shown.
    page.keyboard.press("Enter")
    visitor.wait_for_row("second")


HOSTILE = (
    "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>\"'`${window.hacked=1}"
)


def test_text_from_commands_is_never_executed(service: Service, visitor: Visitor) -> None:
    script = (
        f"# {HOSTILE}\ncat <<'END'\n{HOSTILE}\nEND\n"
        # A title, the clipboard, a link, queries that a terminal would answer, a bell.
        r"printf '\033]0;hacked\007\033]52;c;aGFja2Vk\007\033]8;;javascript:window.hacked=1\007link"
        r"\033]8;;\007\033[c\033[6n\033[5n\007\nend\n'"
    )
    command = service.run(script, name=HOSTILE, labels={"team": HOSTILE[:200]}, args=[HOSTILE])
    page = visitor.page
    for path in ("/", f"/?q={'<img'}", f"/commands/{command['id']}", "/hosts"):
        page.goto(path)
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked") is None
    visitor.open(command["id"])
    visitor.wait_for_row("end")
    page.get_by_text("link").first.click(force=True)
    for name in ("Script", "Arguments 1", "Details"):
        page.get_by_text(name, exact=True).first.click()
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    # The title is the command's name as text, and not the title that the output sets.
    assert page.title().startswith(HOSTILE)
    assert page.url.startswith(service.url)


def test_huge_repeat_counts_do_not_block_the_page(service: Service, visitor: Visitor) -> None:
    """A terminal would repeat a sequence two billion times if the page did not limit counts."""
    script = (
        r"printf 'x\033[2147483647S\033[2147483647Ty\033[2147483647b"
        r"z\033[2147483647L\033[2147483647M\nend\n'"
    )
    visitor.open(service.run(script)["id"])
    visitor.wait_for_row("end")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (375, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.long),
        pytest.param(375, "light", marks=pytest.mark.long),
    ],
)
def test_pages_are_accessible(
    service: Service, visitor: Visitor, width: int, scheme: Literal["light", "dark"]
) -> None:
    service.run("echo fine; echo not >&2; exit 3", name="failed one", labels={"team": "db"})
    running = service.submit("echo there; sleep 3600", name="running one", args=["x"])["id"]
    visitor.page.emulate_media(color_scheme=scheme)
    visitor.page.set_viewport_size({"width": width, "height": 800})
    with visitor.signed_out():
        visitor.page.goto("/")
        expect(visitor.page.get_by_label("Token")).to_be_visible()
        assert visitor.serious_faults() == []
    for path, there in (
        ("/", "running one"),
        ("/?q=nothing-like-this", "No commands match the filters."),
        ("/new", "Run it from a terminal"),
        (f"/commands/{running}", "there"),
        ("/hosts", "keeper"),
    ):
        visitor.page.goto(path)
        expect(visitor.page.get_by_text(there).first).to_be_visible()
        assert visitor.serious_faults() == []
        # The page is not wider than the window.
        wide = visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
