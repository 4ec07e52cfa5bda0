"""Every relative link of every Markdown file leads somewhere, down to its anchor."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_OURS = {".git", ".venv", "node_modules"}
LINK = re.compile(r"\]\(<?([^()\s>]+)>?(?: \"[^\"]*\")?\)")
HTML_LINK = re.compile(r"(?:href|src)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"[a-z]+:")


def markdown_files() -> list[Path]:
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = set(folders) - NOT_OURS
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


def without_code(text: str) -> str:
    """Return a page without its code blocks and code spans, where a link is only text."""
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)


def links(text: str) -> list[str]:
    text = without_code(text)
    found = [*LINK.findall(text), *HTML_LINK.findall(text)]
    return [link for link in found if not ELSEWHERE.match(link)]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (numbered := anchor if not number else f"{anchor}-{number}") in found:
            number += 1
        found.add(numbered)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


def broken(page: Path, root: Path = ROOT) -> Iterator[str]:
    for link in links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(root):
            yield f"{link}: there is no such file"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text())):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    assert links("[a](b.md#c) `[d](e.md)` ![f](g.svg) [h](https://i)") == ["b.md#c", "g.svg"]
    assert anchors("# A `b` c!\n## A b c\n```\n# d\n```\n") == {"a-b-c", "a-b-c-1"}
    page = tmp_path / "page.md"
    page.write_text("[a](none.md) [b](#none) [c](../page.md)\n# some\n[d](#some)")
    assert list(broken(page, tmp_path)) == [
        "none.md: there is no such file",
        "#none: there is no such heading",
        "../page.md: there is no such file",
    ]


def test_every_page_of_docs_is_in_the_index() -> None:
    docs = ROOT / "docs"
    linked = {
        (docs / link.partition("#")[0]).resolve()
        for link in links((docs / "README.md").read_text())
    }
    for page in docs.rglob("*.md"):
        if page.parent.name != "adr" and page != docs / "README.md":
            assert page in linked, page
