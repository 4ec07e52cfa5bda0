"""What the list and the page of a command ask before they act, the filters, and many at a time."""

import re

from playwright.sync_api import FloatRect, Locator, expect

from support.gates import Gate
from support.page import ROWS, Visitor
from support.service import Service

PHONE = {"width": 375, "height": 800}


def box_of(locator: Locator) -> FloatRect:
    """Return where an element is."""
    box = locator.bounding_box()
    assert box is not None
    return box


def apart(one: FloatRect, other: FloatRect) -> bool:
    """Return whether two boxes have no point in common."""
    return (
        one["x"] + one["width"] <= other["x"]
        or other["x"] + other["width"] <= one["x"]
        or one["y"] + one["height"] <= other["y"]
        or other["y"] + other["height"] <= one["y"]
    )


def count_of(service: Service, label: str) -> int:
    """Return how many commands have a label."""
    return len(service.client.get("/v1/commands", params={"label": label}).json()["items"])


def test_rerun_and_delete_ask_first(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    command = service.run("true", name="asked", labels={"about": "asking"})
    page.goto("/?label=about=asking")
    expect(page.get_by_role("link", name="asked")).to_be_visible()
    visitor.key("j")
    visitor.key("r")
    confirm = page.get_by_role("button", name="Rerun", exact=True)
    expect(confirm).to_be_focused()
    assert visitor.serious_faults() == []
    page.keyboard.press("Escape")
    expect(confirm).to_have_count(0)
    visitor.open(command["id"])
    visitor.key("r")
    expect(confirm).to_be_focused()
    # A click on the button that opened the question closes it.
    page.get_by_role("button", name="Rerun asked").click()
    expect(confirm).to_have_count(0)
    assert count_of(service, "about=asking") == 1
    visitor.key("r")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: command["id"] not in url)
    assert count_of(service, "about=asking") == 2
    # The button that deletes is not where the button was that opened the dialog.
    for size in (PHONE, {"width": 1280, "height": 800}, {"width": 800, "height": 420}):
        page.set_viewport_size({"width": size["width"], "height": size["height"]})
        page.goto(f"/commands/{command['id']}")
        page.get_by_role("button", name="More").click()
        opener = page.get_by_role("button", name="Delete …")
        opener.scroll_into_view_if_needed()
        clicked = box_of(opener)
        opener.click()
        dialog = page.get_by_role("dialog")
        delete = dialog.get_by_role("button", name="Delete", exact=True)
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        assert apart(clicked, box_of(delete))
        assert visitor.serious_faults() == []
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
    assert count_of(service, "about=asking") == 2
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_url(re.compile(r"/$"))
    assert count_of(service, "about=asking") == 1


def test_filters_by_text_label_and_time(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    command = service.run("true", name="found by time", labels={"about": "time"})
    row = page.locator(f"[data-id='{command['id']}']")
    page.goto("/?label=about=time&q=nothing-like-this")
    text = page.get_by_role("searchbox")
    expect(text).to_have_value("nothing-like-this")
    expect(row).to_have_count(0)
    # Escape clears the text, its filter and the address, and then leaves the field.
    text.focus()
    page.keyboard.press("Escape")
    expect(row).to_be_visible()
    expect(text).to_have_value("")
    assert page.url.endswith("/?label=about%3Dtime")
    expect(text).to_be_focused()
    page.keyboard.press("Escape")
    expect(text).not_to_be_focused()
    text.fill("nothing")
    page.keyboard.press("Escape")
    label = page.get_by_label("Label, key=value")
    label.fill("db")
    label.press("Enter")
    expect(page.get_by_text("“db” has no =. Write key=value, for example team=db.")).to_be_visible()
    assert visitor.serious_faults() == []
    label.fill("no spaces=x")
    label.press("Enter")
    expect(page.get_by_text("“no spaces” is not a key of a label")).to_be_visible()
    label.fill("")
    # The text that was typed before Escape has not come back meanwhile.
    assert page.url.endswith("/?label=about%3Dtime")
    page.goto("/?label=db")
    expect(page.get_by_role("alert").filter(has_text="label: ")).to_be_visible()
    # A range of times.
    page.goto("/?label=about=time")
    expect(row).to_be_visible()
    page.get_by_role("button", name="Time: Any time").click()
    page.get_by_label("From").fill("2001-02-03T04:05")
    page.get_by_label("To", exact=True).fill("2001-02-03T04:00")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("The start must be before the end.")).to_be_visible()
    page.get_by_label("To", exact=True).fill("2001-02-04T00:00")
    assert visitor.serious_faults() == []
    page.get_by_role("button", name="Apply").click()
    expect(row).to_have_count(0)
    assert "created_after=2001" in page.url
    assert "created_before=2001" in page.url
    page.reload()
    page.get_by_role("button", name="Time: 2001-02-03 04:05 to 2001-02-04 00:00").click()
    page.get_by_role("button", name="Last hour").click()
    expect(row).to_be_visible()
    assert "created_before" not in page.url
    page.get_by_role("button", name="Clear filters").click()
    expect(page.get_by_role("button", name="Time: Any time")).to_be_visible()
    assert page.url.endswith("/")


def test_acting_on_several_commands(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    gate = Gate(service)
    label = {"labels": {"about": "several"}}
    done = [service.run("true", name=f"done {n}", **label)["id"] for n in (1, 2)]
    running = [service.submit(gate.wait, name=f"going {n}", **label)["id"] for n in (1, 2)]
    page.goto("/?label=about=several")
    expect(page.locator("[data-id]")).to_have_count(4)
    page.get_by_label("Select going 1").check()
    page.get_by_label("Select done 1").check()
    page.locator(f"[data-id='{running[1]}'] .open").focus()
    visitor.key("x")
    expect(page.get_by_text("3 selected")).to_be_visible()
    assert visitor.serious_faults() == []
    page.get_by_role("button", name="Stop 2").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Stop 2 commands?")).to_be_visible()
    assert visitor.serious_faults() == []
    dialog.get_by_role("button", name="Stop").click()
    for command in running:
        assert service.wait(command)["status"] == "stopped"
        expect(page.locator(f"[data-id='{command}']")).to_contain_text("stopped")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.get_by_label("Select all").check()
    page.get_by_role("button", name="Rerun 4").click()
    dialog.get_by_role("button", name="Rerun").click()
    expect(page.locator("[data-id]")).to_have_count(8)
    # What is refused is said, and the others are deleted.
    page.get_by_label("Select done 1").last.check()
    page.get_by_label("Select done 2").last.check()
    service.client.delete(f"/v1/commands/{done[0]}").raise_for_status()
    page.get_by_role("button", name="Delete 2").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_text("Cannot delete 1 of 2")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator(f"[data-id='{done[1]}']")).to_have_count(0)
    gate.open()


def test_labels_and_hosts_on_a_phone(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    (host,) = service.client.get("/v1/hosts").json()["items"]
    labels = {"about": "phones", "team": "database", "branch": "main"}
    command = service.run("true", name="on a phone", labels=labels)
    page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    page.goto("/?label=about=phones")
    row = page.locator(f"[data-id='{command['id']}']")
    for text in (*(f"{key}={value}" for key, value in labels.items()), host["name"]):
        shown = row.get_by_text(text, exact=True)
        expect(shown).to_be_visible()
        box = box_of(shown)
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    page.goto("/hosts")
    for text in (host["name"], host["version"], "keeper"):
        box = box_of(page.get_by_text(text).first)
        assert box["x"] + box["width"] <= PHONE["width"]


NOTIFICATIONS = """() => {
    window.notified = [];
    window.asked = 0;
    const { requestPermission } = Notification;
    window.Notification = class extends Notification {
        constructor(title, options) {
            super(title, options);
            window.notified.push([title, options.body]);
        }
        static requestPermission() {
            window.asked++;
            return requestPermission.call(Notification);
        }
    };
}"""


def test_a_notification_when_a_command_ends(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    visitor.context.grant_permissions(["notifications"], origin=service.url)
    # Without a click, nothing is asked and nothing is shown.
    gates = [Gate(service) for _ in range(2)]
    for gate, clicks in zip(gates, (0, 1), strict=True):
        command = service.submit(f"{gate.block}; exit 3", name="followed")
        page.goto(f"/commands/{command['id']}")
        notify = page.get_by_role("button", name="Notify me when it ends")
        expect(notify).to_be_visible()
        page.evaluate(NOTIFICATIONS)
        if clicks:
            notify.click()
            expect(notify).to_have_attribute("aria-pressed", "true")
            assert visitor.serious_faults() == []
        gate.open()
        expect(notify).to_have_count(0)
        assert page.evaluate("window.asked") == clicks
        shown = page.evaluate("window.notified")
        assert len(shown) == clicks
    ((title, body),) = shown
    assert title == "followed: failed"
    assert body.startswith("exit 3")
    visitor.context.clear_permissions()


CUT = """() => [...document.querySelectorAll(".screen:not(.preparing) .xterm-rows > div")]
.map((row) => {
    const range = document.createRange();
    range.selectNodeContents(row);
    const text = range.getBoundingClientRect().right;
    const hides = getComputedStyle(row).overflowX !== 'visible';
    const end = document.querySelector('.terminal').getBoundingClientRect().right;
    return text - (hides ? row.getBoundingClientRect().right : end);
})"""
"""How far the text of each row reaches beyond what is visible of it, in pixels."""


def test_wrapped_lines_are_not_cut(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    gate = Gate(service)
    command = service.submit(
        f"printf 'x%.0s' {{1..9999}}; printf '漢字%.0s' {{1..400}}; echo end; {gate.block}"
    )
    visitor.open(command["id"])
    following = page.get_by_role("button", name="following")
    for width in (1280, 1003, PHONE["width"]):
        page.set_viewport_size({"width": width, "height": 800})
        visitor.eventually(
            lambda: (
                any(row.endswith("end") for row in visitor.rows()) and max(page.evaluate(CUT)) <= 0
            ),
            f"no row to be cut at {width} pixels",
        )
        # What floats over the terminal covers none of its rows.
        last = box_of(page.locator(ROWS).last)
        assert apart(last, box_of(following))
    gate.open()
