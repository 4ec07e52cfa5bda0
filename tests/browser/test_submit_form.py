"""The form of a new command: drafts, keys, files, and the same command from a terminal."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, expect

from support.page import Visitor
from support.service import PATIENCE_SECONDS, Service

SUBMITTED = {
    "script",
    "name",
    "labels",
    "interpreter",
    "args",
    "env",
    "stdin_bytes",
    "interactive",
    "pty",
    "working_directory",
    "timeout_seconds",
    "queue_timeout_seconds",
    "grace_seconds",
    "leftover_seconds",
    "output_limit_bytes",
    "on_output_limit",
    "limits",
    "priority",
    "concurrency",
    "host",
}
"""The fields of a command that come from its submission."""


def write_script(page: Page, text: str) -> None:
    """Replace the script in the editor."""
    page.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)


def test_a_draft_survives_until_it_is_submitted(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    page.goto("/new")
    write_script(page, "echo draft")
    page.get_by_label("Name", exact=True).fill("my draft")
    page.get_by_label("key 1").fill("about")
    page.get_by_label("value 1").first.fill("drafts")
    # It survives leaving the form, a reload, and a response that was lost.
    page.get_by_role("link", name="Hosts").click()
    page.get_by_role("link", name="New", exact=True).click()
    expect(page.get_by_text("Your draft was restored.")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value("my draft")
    page.reload()
    expect(page.locator(".cm-content")).to_have_text("echo draft")
    expect(page.get_by_label("key 1")).to_have_value("about")

    def lose_response(route: Route) -> None:
        if route.request.method == "POST":
            assert route.fetch().status == 201
            route.abort()
        else:
            route.continue_()

    page.route("**/v1/commands", lose_response)
    run = page.get_by_role("button", name="Run", exact=True)
    run.click()
    expect(page.get_by_text("The service does not respond.")).to_be_visible()
    page.unroute("**/v1/commands")
    page.reload()
    expect(page.locator(".cm-content")).to_have_text("echo draft")
    run.click()
    visitor.wait_for_row("draft")
    # The reload kept the idempotency key, so there is one command; and the draft has ended.
    query = {"label": "about=drafts"}
    assert len(service.client.get("/v1/commands", params=query).json()["items"]) == 1
    page.goto("/new")
    expect(page.locator(".cm-content")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    # What can be restored can be discarded.
    page.get_by_label("Name", exact=True).fill("unwanted")
    page.reload()
    page.get_by_role("button", name="Discard draft").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    assert page.evaluate("sessionStorage.length") == 0


def test_the_form_by_keyboard_and_with_a_file(
    service: Service, visitor: Visitor, tmp_path: Path
) -> None:
    page = visitor.page
    page.goto("/new")
    file = tmp_path / "greet.py"
    file.write_text("import sys\nprint('hello', sys.argv[1:], input())\n")
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Open a file").click()
    chosen.value.set_files(file)
    expect(page.get_by_label("Name", exact=True)).to_have_value("greet.py")
    expect(page.locator(".cm-content")).to_contain_text("import sys")
    # A new argument has the focus.
    page.get_by_role("button", name="Add argument").click()
    page.keyboard.type("one")
    page.get_by_role("button", name="Add argument").click()
    page.keyboard.type("two words")
    page.get_by_text("More options").click()
    page.get_by_label("Interpreter").fill(f"{sys.executable} -u")
    page.get_by_label("Standard input").fill("typed")
    page.get_by_label("Timeout", exact=False).first.fill("5 minutes")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Write a duration as 90, 90s, 5m or 2h.")).to_be_visible()
    timeout = page.get_by_label("Timeout", exact=False).first
    expect(timeout).to_be_focused()
    timeout.fill("5m")
    # Ctrl+Enter submits from a text area too.
    page.get_by_label("Standard input").focus()
    page.keyboard.press("Control+Enter")
    visitor.wait_for_row("hello ['one', 'two words'] typed")
    command = service.get(page.url.rsplit("/", 1)[1])
    assert command["interpreter"] == [sys.executable, "-u"]
    assert command["timeout_seconds"] == 300
    page.get_by_role("button", name="Show keyboard shortcuts").click()
    expect(page.get_by_text("run, from any field")).to_be_visible()
    page.keyboard.press("Escape")
    # To edit and run it, everything but the standard input is there.
    visitor.key("e")
    expect(page.get_by_label("Interpreter")).to_have_value(f"{sys.executable} -u")
    expect(timeout).to_have_value("5m")
    expect(page.get_by_text("Standard input is not shown again")).to_be_visible()


def run_line(service: Service, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a terminal with the token in the environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "PATH": path, "SCRIPTSERVICE_TOKEN": service.token},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def submitted(command: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a command that come from its submission."""
    return {name: command[name] for name in SUBMITTED}


def test_the_lines_for_a_terminal_submit_the_same(service: Service, visitor: Visitor) -> None:
    page = visitor.page
    (host,) = service.client.get("/v1/hosts").json()["items"]
    fields: dict[str, Any] = {
        "name": "-it's the same",
        "labels": {"about": "lines", "k": "a b"},
        "args": ["-v", "", "two words"],
        "env": {"A": "$HOME `id`"},
        "timeout_seconds": 90,
    }
    every: dict[str, Any] = {
        **fields,
        "interpreter": ["/bin/bash", "-e"],
        "stdin": "a\nb'\n",
        "working_directory": "private",
        "queue_timeout_seconds": 7200,
        "grace_seconds": 1,
        "leftover_seconds": 0.5,
        "output_limit_bytes": 1 << 30,
        "on_output_limit": "stop",
        "interactive": True,
        "limits": {"cpu_seconds": 90, "open_files": 512, "nice": 3},
        "priority": -3,
        "concurrency": {"key": "lines", "limit": 3, "when_busy": "reject"},
        "host": host["name"],
    }
    script = '@cat - \nexit "$#" # it\'s'
    original = service.run(script, **every)
    page.goto(f"/new?from={original['id']}")
    # Standard input is not given back, and the host is chosen again.
    page.get_by_label("Standard input").fill(every["stdin"])
    page.get_by_label("Host", exact=True).fill(every["host"])
    shown = page.locator(".snippets pre")
    expect(shown).to_contain_text("priority=-3")
    done = run_line(service, f"{shown.inner_text()} -sS -w '\n%{{http_code}}'")
    assert done.stdout.endswith("\n201"), done
    created = re.search(r'"id": ?"([^"]+)"', done.stdout)
    assert created is not None
    assert submitted(service.get(created[1])) == submitted(original)
    # A command without a limit is sent as JSON. A terminal needs a TERM, which the form adds.
    page.get_by_label("Input while it runs").select_option("pty")
    expect(page.get_by_label("NAME 2")).to_have_value("TERM")
    page.get_by_label("Output limit").fill("none")
    expect(shown).to_contain_text("application/json")
    done = run_line(service, f"{shown.inner_text()} -sS")
    created = re.search(r'"id": ?"([^"]+)"', done.stdout)
    assert created is not None, done
    env = {**every["env"], "TERM": "xterm-256color"}
    assert submitted(service.get(created[1])) == {
        **submitted(original),
        "env": env,
        "output_limit_bytes": None,
        "pty": {"rows": 24, "cols": 80},
    }
    page.get_by_label("Input while it runs").select_option("yes")
    page.get_by_role("button", name="scriptservice run").click()
    done = run_line(service, shown.inner_text())
    assert done.returncode == original["exit_code"], done
    query = {"label": "about=lines", "limit": 1}
    (newest,) = service.client.get("/v1/commands", params=query).json()["items"]
    assert submitted(service.get(newest["id"])) == {
        **submitted(original),
        "env": env,
        "output_limit_bytes": None,
    }
    # Without more than the script, the line has no options.
    page.goto("/new")
    write_script(page, "exit 4")
    page.get_by_role("button", name="scriptservice run").click()
    expect(shown).to_have_text(f"scriptservice run --url {service.url} \\ -- 'exit 4'")
    assert run_line(service, shown.inner_text()).returncode == 4
