"""Writes the generated parts of ``docs/reference`` from the code.

``scripts/reference`` calls this module. The table of settings comes from the fields of `Settings`.
The verbs and their options come from the command line's public command tree. A test compares the
committed pages with what this module generates.
"""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from typer.main import get_command

from scriptservice.settings import ENVIRONMENT_PREFIX, Settings

APPLICATION = "scriptservice.cli.app:app"
"""Module and name of the Typer application that holds all verbs."""

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"

COMPUTED_DEFAULTS = {
    "data_dir": "see [below](#default-data-directory)",
    "host_name": "the machine's host name",
}
"""Descriptions of defaults that depend on the machine, by the setting's field."""

UNITS = ("seconds", "bytes")
"""Units that may be the last word of a setting's name."""


def main() -> int:
    """Write every page whose generated part has changed; return the exit code."""
    for page, text in pages().items():
        if page.read_text() != text:
            page.write_text(text)
            print(f"wrote {page.relative_to(REFERENCE.parents[1])}", file=sys.stderr)
    return 0


def pages() -> dict[Path, str]:
    """Return the whole text of each page with a generated part, by path."""
    parts = {
        "settings.md": ("settings", settings_table()),
        "command-line.md": ("verbs", verb_sections()),
    }
    return {
        REFERENCE / name: replace_part((REFERENCE / name).read_text(), part, content)
        for name, (part, content) in parts.items()
    }


def replace_part(page: str, name: str, content: str) -> str:
    """Return a page with new content between the two marks of a generated part.

    Raises:
        ValueError: the page does not have the marks.
    """
    begin = f"<!-- {name}: made by scripts/reference -->\n"
    end = f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        message = f"cannot generate {name}: the page does not have its marks"
        raise ValueError(message)
    return pattern.sub(lambda _: f"{begin}{content}\n{end}", page)


def settings_table() -> str:
    """Return one row of Markdown for each setting."""
    rows = [
        "| flag | environment variable | TOML key | default | unit | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        flag = name.replace("_", "-")
        flags = f"`--{flag}`"
        if field.annotation is bool:
            flags += f", `--no-{flag}`"
        unit = next((unit for unit in UNITS if name.endswith(f"_{unit}")), "–")
        rows.append(
            f"| {flags} | `{ENVIRONMENT_PREFIX}{name.upper()}` | `{name}` | {_default(name)} "
            f"| {unit} | {_cell(field.description or '')} |"
        )
    return "\n".join(rows)


def _default(name: str) -> str:
    if name in COMPUTED_DEFAULTS:
        return COMPUTED_DEFAULTS[name]
    value = Settings.model_fields[name].default
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def verb_sections() -> str:
    """Return a section of Markdown for each verb, in the order of the command line's help."""
    module, _, name = APPLICATION.partition(":")
    # Typer and Click declare the same attributes in different classes, so the type is `Any`.
    group: Any = get_command(getattr(import_module(module), name))
    context = group.make_context("scriptservice", [], resilient_parsing=True)
    return "\n\n".join(
        _verb_section(each, *_load_verb(group, context, each))
        for each in group.list_commands(context)
    )


def _load_verb(group: Any, context: Any, name: str) -> tuple[Any, Any]:
    """Return a verb and its context. If the verb's module is not imported yet, import it now."""
    command = group.get_command(context, name)
    verb_context = command.make_context(name, [], parent=context, resilient_parsing=True)
    return verb_context.command, verb_context


def _verb_section(name: str, command: Any, context: Any) -> str:
    usage = " ".join(["scriptservice", name, *command.collect_usage_pieces(context)])
    parts = [f"## {name}", f"```console\n$ {usage}\n```", _paragraphs(command.help or "")]
    rows = list(_option_rows(command, context))
    if rows:
        parts.append("\n".join(["| argument or option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(part for part in parts if part)


def _option_rows(command: Any, context: Any) -> Iterator[str]:
    for parameter in command.params:
        settings = [*Settings.model_fields, "config"] if parameter.opts[0].startswith("-") else []
        if parameter.name in settings and ENVIRONMENT_PREFIX in (parameter.help or ""):
            # The flag's help text has the default of this machine. The page of settings describes
            # the default in words.
            names = ", ".join(f"`{each}`" for each in [*parameter.opts, *parameter.secondary_opts])
            yield f"| {names} | see [settings](settings.md) |"
        elif record := parameter.get_help_record(context):
            names, text = record
            yield f"| `{_in_a_row(names)}` | {_cell(text)} |"


def _paragraphs(text: str) -> str:
    """Return a help text with one line for each paragraph."""
    shown, _, _ = text.partition("\f")  # Typer does not show what follows a form feed
    return "\n\n".join(" ".join(each.split()) for each in shown.split("\n\n")).strip()


def _cell(text: str) -> str:
    """Return a text that can stand in one cell of a Markdown table."""
    return _in_a_row(text).replace("<", "&lt;")


def _in_a_row(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
