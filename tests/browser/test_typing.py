"""Typing into running commands, signals, and what queued commands wait for, on the page."""

from playwright.sync_api import Page, Route, WebSocket, expect

from support.gates import Gate
from support.page import Visitor
from support.service import Service

KEYS_GO = "Keys go to the command."
TYPED_ROWS = ".typing .xterm-rows > div"


def typed_rows(page: Page) -> list[str]:
    """Return the rows of the terminal in which the reader types, without trailing blanks."""
    found: list[str] = page.locator(TYPED_ROWS).all_text_contents()
    return [text.replace("\xa0", " ").rstrip() for text in found]


def wait_for_typed_row(visitor: Visitor, wanted: str) -> None:
    """Wait until the terminal in which the reader types has a row that is exactly ``wanted``."""
    visitor.eventually(lambda: wanted in typed_rows(visitor.page), f"the row {wanted!r}")


def test_a_terminal_takes_keys_sizes_and_survives_a_server(
    service: Service, visitor: Visitor
) -> None:
    page = visitor.page
    # The script draws on the alternate screen, as vim does. It numbers the lines that it reads.
    script = r"""
    printf '\033[?1049h\033[2;1Hready\r\n'
    n=0
    while read -r line; do
        [ "$line" = end ] && exit 7
        set -- $(stty size)
        echo "$((++n)): $line, $1 rows"
    done
    """
    command = service.submit(script, pty={"rows": 24, "cols": 80}, env={"TERM": "xterm"})
    sockets: list[WebSocket] = []
    # Playwright sets attributes of the function, so a built-in method will not do.
    page.on("websocket", lambda socket: sockets.append(socket))  # noqa: PLW0108
    visitor.open(command["id"])
    visitor.wait_for_row("ready")
    expect(page.get_by_text("Ctrl-] leaves.")).to_be_visible()
    # Enter starts to type; the script gets the size of the window, also when that changes.
    visitor.key("Enter")
    expect(page.get_by_text(KEYS_GO)).to_be_visible()
    assert visitor.serious_faults() == []
    page.keyboard.type("typed\n")
    wait_for_typed_row(visitor, f"1: typed, {len(typed_rows(page))} rows")
    before = len(typed_rows(page))
    page.set_viewport_size({"width": 900, "height": 600})
    visitor.eventually(lambda: len(typed_rows(page)) < before, "fewer rows")
    page.keyboard.type("resized\n")
    wait_for_typed_row(visitor, f"2: resized, {len(typed_rows(page))} rows")
    # The server dies: the connection is made again, and nothing is sent or shown twice.
    service.close_client()
    service.kill_server()
    visitor.eventually(lambda: len(sockets) > 1, "another connection")
    expect(page.locator(".typing .off")).to_have_count(0)
    page.keyboard.type("after\n")
    wait_for_typed_row(visitor, f"3: after, {len(typed_rows(page))} rows")
    assert sum(row.startswith("2: ") for row in typed_rows(page)) == 1
    # Ctrl-] leaves the command, which continues; a click in the output returns to it.
    visitor.key("Control+]")
    expect(page.locator(".typing")).to_have_count(0)
    assert service.get(command["id"])["status"] == "running"
    page.locator(".takes-input").click()
    expect(page.get_by_text(KEYS_GO)).to_be_visible()
    page.keyboard.type("end\n")
    expect(page.get_by_text("exit 7")).to_be_visible()
    expect(page.locator(".typing")).to_have_count(0)
    expect(page.get_by_text("The command takes no more input.")).to_be_visible()


def test_lines_of_input_are_sent_once(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    gate = Gate(service)
    script = f'{gate.block}; echo open; while read -r line; do echo "<$line>"; done; cat; echo end'
    command = service.submit(script, interactive=True)
    visitor.open(command["id"])
    gate.open()
    visitor.wait_for_row("open")
    field = page.get_by_label("Line for the script")
    visitor.key("Enter")
    expect(field).to_be_focused()
    assert visitor.serious_faults() == []
    lost: list[int] = []

    def lose_response(route: Route) -> None:
        """Pass the first line on, and lose the answer."""
        if route.request.post_data_buffer == b"one\n" and not lost:
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    page.route("**/stdin**", lose_response)
    page.keyboard.type("one\ntwo\n")
    rows = visitor.wait_for_row("<two>")
    assert lost == [202]
    assert [row for row in rows if row.startswith("<")] == ["<one>", "<two>"]
    # Ctrl-D in the empty field ends the input.
    visitor.key("Control+d")
    visitor.wait_for_row("end")
    expect(page.get_by_text("The input is closed.")).to_be_visible()


def test_signals_and_what_a_queued_command_waits_for(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    gate = Gate(service)
    key = {"key": "page-key"}
    holder = service.submit(
        f"trap 'echo got usr1' USR1; echo on; {gate.wait}", name="holds", concurrency=key
    )
    waiting = service.submit("true", name="waits", concurrency=key)
    page.goto(f"/commands/{waiting['id']}")
    sentence = "waits until fewer commands with the key page-key run"
    expect(page.get_by_text(sentence).first).to_be_visible()
    page.goto("/?status=queued")
    expect(page.get_by_text("key page-key")).to_be_visible()
    visitor.open(holder["id"])
    visitor.wait_for_row("on")
    page.get_by_role("button", name="Signal holds").click()
    assert visitor.serious_faults() == []
    page.get_by_role("button", name="USR1 defined").click()
    expect(page.get_by_text("SIGUSR1 sent")).to_be_visible()
    visitor.wait_for_row("got usr1")
    page.get_by_role("button", name="Details").click()
    expect(page.get_by_text("at most 1 at a time")).to_be_visible()
    gate.open()
    expect(page.get_by_role("button", name="Signal holds")).to_have_count(0)
    service.wait(waiting["id"])
