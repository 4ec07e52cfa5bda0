"""Settings and the texts of ``serve``, as far as no service starts."""

import re
import socket
import sys
from pathlib import Path

import pytest

from scriptservice import __version__
from scriptservice.cli.main import main
from scriptservice.cli.serve import keeper_config
from scriptservice.cli.service_environment import ServiceEnvironment
from scriptservice.errors import ConfigurationError
from scriptservice.paths import default_data_dir
from scriptservice.server.commands.disk_space import default_min_free_bytes
from scriptservice.settings import Settings, load_settings

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTSERVICE_CONFIG", "")
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SCRIPTSERVICE_{name.upper()}", raising=False)


def refusal(capsys: Capture, *flags: str) -> str:
    """Return the one line in which ``serve`` says why it cannot start."""
    code = main(["serve", *flags])
    shown = capsys.readouterr()
    assert code in (1, 2)
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1, shown.err
    return shown.err


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--host", ""], "cannot use setting host"),
        (["--data-dir", ""], "cannot use setting data_dir"),
        (["--port", "65536"], "cannot use setting port"),
        (["--port", "-1"], "cannot use setting port"),
        (["--port", "http"], "cannot use setting port"),
        (["--max-running", "many"], "cannot use setting max_running"),
        (["--max-running", "-1"], "cannot use setting max_running"),
        (["--shutdown-grace-seconds", "3601"], "cannot use setting shutdown_grace_seconds"),
        (["--shutdown-grace-seconds", "nan"], "cannot use setting shutdown_grace_seconds"),
        (["--min-free-bytes", "1G"], "cannot use setting min_free_bytes"),
        (["--min-free-bytes", "-1"], "cannot use setting min_free_bytes"),
        (["--output-limit-bytes", "-1"], "cannot use setting output_limit_bytes"),
        (["--output-limit-bytes", "null"], "cannot use setting output_limit_bytes"),
        (["--output-limit-bytes", str(1 << 63)], "cannot use setting output_limit_bytes"),
        (["--spool-limit-bytes", "1"], "cannot use setting spool_limit_bytes"),
        (["--script-uid", "0"], "cannot use setting script_uid"),
        (["--log-level", "loud"], "cannot use setting log_level"),
        (["--log-format", "xml"], "cannot use setting log_format"),
        (["--allowed-host", ""], "cannot use setting allowed_host"),
        (["--allowed-host", "box:80"], "cannot use setting allowed_host"),
        (["--allowed-host", "http://box"], "cannot use setting allowed_host"),
        (["--allowed-host", "box", "--allowed-host", "*.box"], "cannot use setting allowed_host"),
        (["--host-name", ""], "cannot use setting host_name"),
        (["--host-name", "n" * 256], "cannot use setting host_name"),
        (["--config", "/no/such/file.toml"], "cannot read settings from /no/such/file.toml"),
        (["--colour", "red"], "No such option: --colour"),
        (["--port"], "--port"),
        (["somewhere"], "somewhere"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_an_invalid_flag_gives_one_clear_line(capsys: Capture, flags: list[str], line: str) -> None:
    assert line in refusal(capsys, *flags)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("max_running = 'many'", "cannot use setting max_running"),
        ("colour = 'red'", "cannot use setting colour"),
        ("max_running =", "cannot read settings"),
        ("[server]\nport = 1", "cannot use setting server"),
    ],
)
def test_an_invalid_file_gives_one_clear_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, line: str
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(content)
    assert line in refusal(capsys, "--config", str(file))
    monkeypatch.setenv("SCRIPTSERVICE_CONFIG", str(file))
    assert line in refusal(capsys)


def test_an_invalid_environment_gives_one_clear_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPTSERVICE_MAX_RUNNING", "many")
    assert "cannot use setting max_running" in refusal(capsys)


def test_flags_win_over_the_environment_and_the_environment_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('host_name = "file"\nport = 1\nmax_running = 3\nuse_cgroups = false\n')
    monkeypatch.setenv("SCRIPTSERVICE_PORT", "2")
    monkeypatch.setenv("SCRIPTSERVICE_MAX_RUNNING", "4")
    settings = load_settings({"config": str(file), "max_running": "5", "host": None})
    assert (settings.host_name, settings.port, settings.max_running) == ("file", 2, 5)
    assert settings.use_cgroups is False


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_an_environment_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    values = {
        "port": "17",
        "log_level": "debug",
        "log_format": "json",
        "spool_limit_bytes": "9999999",
    }
    text = values.get(name, "1")
    monkeypatch.setenv(f"SCRIPTSERVICE_{name.upper()}", text)
    found = getattr(load_settings({}), name)
    assert str(found).endswith(text) or found in (True, 1.0, ("1",))


def test_a_setting_may_have_several_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('allowed_host = ["a.example", "b"]\n')
    assert load_settings({"config": str(file)}).allowed_host == ("a.example", "b")
    monkeypatch.setenv("SCRIPTSERVICE_ALLOWED_HOST", " c.example,d ,, *,")
    assert load_settings({}).allowed_host == ("c.example", "d", "*")
    assert load_settings({"allowed_host": ("e",)}).allowed_host == ("e",)
    monkeypatch.setenv("SCRIPTSERVICE_ALLOWED_HOST", "")
    monkeypatch.setenv("SCRIPTSERVICE_CONFIG", "")
    assert load_settings({}).allowed_host == ()


def test_an_empty_environment_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTSERVICE_PORT", "")
    assert load_settings({}).port == 8000


def test_settings_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).port = 1  # type: ignore[misc]


def test_the_data_directory_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({"data_dir": "data"}).data_dir == str(tmp_path / "data")


def test_the_default_data_directory() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/xdg"}, 0) == "/var/lib/scriptservice"
    assert default_data_dir({"XDG_DATA_HOME": "/xdg"}, 1000) == "/xdg/scriptservice"
    home = {"XDG_DATA_HOME": "", "HOME": "/home/somebody"}
    assert default_data_dir(home, 1000) == "/home/somebody/.local/share/scriptservice"


def test_the_error_names_a_missing_file() -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load_settings({"config": "/no/such/file"})


@pytest.mark.parametrize(
    ("disk_bytes", "min_free_bytes"),
    [
        (0, 256 << 20),
        (1 << 30, 256 << 20),
        (5120 << 20, 256 << 20),
        (100 << 30, 5 << 30),
        (200 << 30, 10 << 30),
        (8 << 40, 10 << 30),
    ],
)
def test_the_space_that_stays_free_is_a_share_of_the_disk(
    disk_bytes: int, min_free_bytes: int
) -> None:
    assert default_min_free_bytes(disk_bytes) == min_free_bytes


@pytest.mark.parametrize(
    ("flags", "min_free_bytes", "reserve_bytes"),
    [
        ({}, None, 64 << 20),
        ({"min_free_bytes": "0"}, 0, 0),
        ({"min_free_bytes": "1000000"}, 1_000_000, 1_000_000),
        ({"min_free_bytes": "1000000000"}, 1_000_000_000, 64 << 20),
    ],
)
def test_scripts_wait_at_the_reserve_or_at_a_smaller_setting(
    flags: dict[str, str], min_free_bytes: int | None, reserve_bytes: int
) -> None:
    environment = ServiceEnvironment(None, None, None)
    config = keeper_config(load_settings(flags), environment)
    assert config.child_config["min_free_bytes"] == min_free_bytes
    assert config.child_config["output_limit_bytes"] == 10 << 30
    assert config.reserve_bytes == reserve_bytes


# Verbs and help


def test_version(capsys: Capture) -> None:
    for word in ("version", "--version"):
        assert main([word]) == 0
        assert capsys.readouterr().out == f"{__version__}\n"


def test_help_lists_the_verbs(capsys: Capture) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert "serve" in shown
        assert "version" in shown


def test_an_unknown_verb_is_a_usage_error(capsys: Capture) -> None:
    assert main(["dance"]) == 2
    assert "Unknown command 'dance'. 'scriptservice --help' lists" in capsys.readouterr().err


def test_help_of_serve_lists_every_setting_with_its_unit_and_default(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/Home/Somebody")
    # The flags are made when the verb is imported, which another test may have done.
    monkeypatch.delitem(sys.modules, "scriptservice.cli.serve", raising=False)
    assert main(["serve", "--help"]) == 0
    shown = re.sub(r"\s+", "", capsys.readouterr().out)
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert f"[SCRIPTSERVICE_{name.upper()};default" in shown
        assert field.description
        assert re.sub(r"\s+", "", field.description) in shown
        if name.endswith(("_seconds", "_bytes")):
            assert name.rsplit("_", 1)[1] in field.description
    for default in ("127.0.0.1", "8000", "none", "true", "info", "30", "10737418240", "59999"):
        assert f";default{default}]" in shown
    # Text defaults are shown unchanged, not in lower case.
    assert "SCRIPTSERVICE_DATA_DIR;default/Home/Somebody/scriptservice]" in shown
    assert f"SCRIPTSERVICE_HOST_NAME;default{socket.gethostname()}]" in shown
