"""The generated pages of ``docs/reference`` are what the code generates."""

import pytest

from tools import reference


@pytest.mark.parametrize("name", ["settings.md", "command-line.md"])
def test_a_page_is_what_the_code_generates(name: str) -> None:
    page = reference.REFERENCE / name
    assert page.read_text() == reference.pages()[page], "run scripts/reference"


def test_every_setting_has_a_row() -> None:
    table = reference.settings_table()
    assert table.count("\n| `--") == len(reference.Settings.model_fields)
    assert "| `--port` | `SCRIPTSERVICE_PORT` | `port` | `8000` | – | " in table
    assert "| `30` | seconds |" in table


def test_every_verb_has_a_section() -> None:
    sections = reference.verb_sections()
    for verb in ("serve", "run", "list", "show", "logs", "stop", "rerun", "delete", "version"):
        assert f"\n$ scriptservice {verb}" in sections
    assert "`-f, --follow`" in sections


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot generate verbs"):
        reference.replace_part("# Command line\n", "verbs", "")
