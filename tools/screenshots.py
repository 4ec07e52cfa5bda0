"""Takes screenshots of each page of a running service: light and dark, on a desktop and a phone.

usage: screenshots.py URL TOKEN_FILE DIRECTORY [PAGE…]

The program submits some commands first, unless an earlier run has submitted them. It needs
playwright and chromium.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import APIResponse, BrowserContext, Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES = {"desktop": (1280, 800), "phone": (375, 812)}

BACKUP = """\
set -euo pipefail
tables=(accounts audit_log invoices orders payments sessions users)
echo -e "\\033[1mDumping database app from $PGHOST\\033[0m"
for round in $(seq 1 "$1"); do
    for table in "${tables[@]}"; do
        rows=$((RANDOM * 7 + 1200))
        echo -e "\\033[32m✓\\033[0m $table \\033[90m$rows rows\\033[0m"
        if [ "$table" = audit_log ]; then
            echo "warning: audit_log: 3 rows have no owner, skipped" >&2
        fi
        sleep 0.4
    done
    echo -e "\\033[36mround $round\\033[0m written to \\033[4m/backup/app-$round.sql.zst\\033[0m"
done
"""
BUILD = """\
for page in index install tour api operations security; do
    echo -e "rendering \\033[34m$page.md\\033[0m → build/$page.html"
    sleep 0.2
done
echo -e "\\033[32m6 pages\\033[0m, 0 broken links"
"""
ROTATE = """\
echo "asking vault for a new key …"
sleep 0.3
echo -e "\\033[31merror:\\033[0m vault.internal:8200: permission denied (role rotate-ro)" >&2
exit 3
"""
SEED: list[dict[str, Any]] = [
    {"script": "df -h /\nuptime\n", "name": "disk and load", "labels": {"every": "5m"}},
    {"script": BUILD, "name": "build docs", "labels": {"ci": "docs", "branch": "main"}},
    {"script": ROTATE, "name": "rotate keys", "labels": {"team": "platform"}},
    {"script": "curl -fsS https://status.internal/health | jq .\nexit 7\n"},
    {
        "script": "echo importing; sleep 60\n",
        "name": "import catalogue",
        "labels": {"team": "shop"},
        "timeout_seconds": 0.6,
    },
    {"script": "kill -KILL $$\n", "name": "resize images", "labels": {"team": "shop"}},
    {"script": "for i in $(seq 400); do echo $i; sleep 1; done\n", "name": "watch the queue"},
    {
        "script": "seq 1 400000\n",
        "name": "reindex everything",
        "labels": {"team": "search"},
    },
    {
        "script": BACKUP,
        "name": "nightly backup",
        "labels": {"team": "db"},
        "args": ["400"],
        "env": {"PGHOST": "db1.internal"},
        "timeout_seconds": 3600,
    },
]


def check(answer: APIResponse) -> None:
    """Exit if the service refused a request."""
    if not answer.ok:
        raise SystemExit(f"cannot take screenshots: {answer.url}: {answer.text()}")


def sign_in(context: BrowserContext, url: str, token: str) -> dict[str, str]:
    """Sign a browser in; return the headers of requests that change something."""
    answer = context.request.post(f"{url}/v1/session", data={"token": token})
    check(answer)
    return {"X-CSRF-Token": answer.json()["csrf_token"]}


def seed(context: BrowserContext, url: str, headers: dict[str, str]) -> dict[str, str]:
    """Submit the commands that the pictures show, unless they exist; return their ids by name.

    Args:
        context: a browser that is signed in.
        url: URL of the service.
        headers: headers of requests that change something.
    """
    page = context.request.get(f"{url}/v1/commands?limit=200").json()
    known = {item["name"]: item["id"] for item in page["items"] if item["name"]}
    if "nightly backup" not in known:
        for body in SEED:
            answer = context.request.post(
                f"{url}/v1/commands",
                headers={**headers, "Content-Type": "application/json"},
                data=json.dumps(body),
            )
            check(answer)
            known[body.get("name", "")] = answer.json()["id"]
    return known


def views(ids: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the pages by name: the path, and a selector that matches when the page has loaded."""
    return {
        "commands": ("/", ".row"),
        "running": (f"/commands/{ids['nightly backup']}", ".xterm-rows span"),
        "failed": (f"/commands/{ids['rotate keys']}", ".xterm-rows span"),
        "large": (f"/commands/{ids['reindex everything']}", ".scrubber"),
        "new": (f"/new?from={ids['nightly backup']}", ".cm-line"),
        "hosts": ("/hosts", "tbody tr"),
        "docs": ("/docs", ".opblock.is-open"),
    }


def shoot(page: Page, target: Path) -> None:
    """Take a screenshot of the page, after a pause in which it finishes drawing."""
    page.wait_for_timeout(1200)
    page.screenshot(path=target)
    print(target)


def main() -> None:
    """Take all screenshots, or those of the named pages."""
    url, token_file, directory, *wanted = sys.argv[1:]
    token = Path(token_file).read_text().strip()
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for device, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme=scheme,
                    has_touch=device == "phone",
                )
                page = context.new_page()
                page.on("console", lambda message: print(f"console: {message.text}"))
                page.on("pageerror", lambda error: print(f"error: {error}"))
                if not wanted or "sign-in" in wanted:
                    page.goto(f"{url}/")
                    page.wait_for_selector("input[name=token]")
                    shoot(page, out / f"sign-in-{device}-{scheme}.png")
                ids = seed(context, url, sign_in(context, url, token))
                for name, (path, ready) in views(ids).items():
                    if wanted and name not in wanted:
                        continue
                    page.goto(f"{url}{path}")
                    page.wait_for_selector(ready)
                    shoot(page, out / f"{name}-{device}-{scheme}.png")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
