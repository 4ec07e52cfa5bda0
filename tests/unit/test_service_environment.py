"""What ``serve`` takes from its environment beside its settings."""

from pathlib import Path

import pytest

from scriptservice.cli.main import main
from scriptservice.cli.service_environment import read_environment, without_service_variables
from scriptservice.errors import ConfigurationError

TOKEN = "sixteen-letters!"


@pytest.mark.parametrize("token", [TOKEN, "x" * 256, "!~" * 8])
def test_a_token_is_taken(token: str) -> None:
    given = read_environment({"SCRIPTSERVICE_TOKEN": token}, 1)
    assert given.first_token == token
    assert token not in repr(given)


@pytest.mark.parametrize(
    "token",
    ["x" * 15, "x" * 257, " " + "x" * 16, "x" * 16 + "\n", "x x" * 8, "é" * 16, "\x7f" * 16],
)
def test_a_token_that_cannot_be_used_is_refused_and_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    with pytest.raises(ConfigurationError, match="cannot use SCRIPTSERVICE_TOKEN"):
        read_environment({"SCRIPTSERVICE_TOKEN": token}, 1)
    monkeypatch.setenv("SCRIPTSERVICE_TOKEN", token)
    assert main(["serve"]) == 1
    shown = capsys.readouterr().err
    assert "16 to 256 visible ASCII characters" in shown
    assert token.strip() not in shown


def test_no_token_is_none_nor_is_an_empty_one() -> None:
    assert read_environment({}, 1).first_token is None
    assert read_environment({"SCRIPTSERVICE_TOKEN": ""}, 1).first_token is None


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": ""}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert read_environment(environment, 7).watchdog_seconds == seconds


def test_what_was_taken_is_in_no_environment_any_more() -> None:
    taken = dict.fromkeys(["SCRIPTSERVICE_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"])
    environment = dict.fromkeys(taken, "x")
    assert without_service_variables({**environment, "PATH": "/bin"}) == {"PATH": "/bin"}


def test_the_document_names_what_is_no_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text()
    for name in ("SCRIPTSERVICE_TOKEN", "SCRIPTSERVICE_CONFIG", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        assert f"| `{name}` |" in text, name
