"""The verbs as a whole: what is imported for each, what a shell completes, what an extra lacks."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from scriptservice.cli.app import VERBS, usage
from scriptservice.cli.extras import SERVER_MODULES
from support.service import PATIENCE_SECONDS
from tools.reference import verb_sections

NAMES = [
    "serve", "run", "list", "show", "logs", "wait", "attach", "send", "signal",
    "stop", "rerun", "delete", "hosts", "login",
    "upgrade", "backup", "migrate", "vacuum", "version",
]  # fmt: skip
SERVICE_VERBS = ["serve", "upgrade", "backup", "migrate", "vacuum"]
CLIENT_VERBS = [
    "run", "list", "show", "logs", "wait", "attach", "send", "signal",
    "stop", "rerun", "delete", "hosts", "login",
]  # fmt: skip

WITHOUT = """
import sys, runpy
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {missing!r} else found(name)
sys.meta_path.insert(0, Missing())
sys.argv[1:] = {words!r}
runpy.run_module("scriptservice.cli", run_name="__main__")
"""


def cli(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "scriptservice.cli", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **environment},
    )


def cli_without(
    missing: set[str], *words: str, typed: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a verb as where some modules are not installed, with what is typed at it."""
    program = WITHOUT.format(missing=missing, words=list(words))
    return subprocess.run(
        [sys.executable, "-c", program],
        **({"input": typed} if typed else {"stdin": subprocess.DEVNULL}),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def test_help_lists_every_verb() -> None:
    assert [verb.name for verb in VERBS] == NAMES
    assert cli("--help").stdout == usage()
    for name in NAMES:
        assert f"\n  {name} " in usage()


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_says_more(name: str) -> None:
    ended = cli(name, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"Usage: scriptservice {name} ")


def test_an_unknown_verb_suggests_the_nearest() -> None:
    for name, hint in (
        ("lst", "Did you mean 'list'?"),
        ("colour", "'scriptservice --help' lists all commands."),
    ):
        ended = cli(name)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == f"scriptservice: Unknown command '{name}'. {hint}\n"


def test_every_value_in_the_help_has_a_name() -> None:
    sections = verb_sections()
    names = re.findall(r"^\| `([^`]*)` \|", sections, re.MULTILINE)
    assert len(names) > 50
    assert [name for name in names if "<" in name or "VALUE" in name.replace("KEY=VALUE", "")] == []
    for shown in ("--file FILE", "--name NAME", "--timeout DURATION", "--output-limit SIZE"):
        assert shown in sections
    help_of_serve = cli("serve", "--help").stdout
    for shown in ("--port PORT", "--shutdown-grace-seconds SECONDS", "--data-dir DIR"):
        assert shown in help_of_serve
    assert "VALUE" not in help_of_serve


# Shell completion


def completions(shell: str, line: str) -> list[str]:
    """Return what a shell is told that could stand at the end of a line."""
    words = line.split(" ")
    environment = {
        "_SCRIPTSERVICE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    ended = cli(**environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_a_shell_completes_every_verb() -> None:
    assert completions("bash", "scriptservice ") == NAMES
    assert completions("bash", "scriptservice s") == ["serve", "show", "send", "signal", "stop"]
    assert completions("bash", "scriptservice mi") == ["migrate"]
    fish = [line.partition("\t") for line in completions("fish", "scriptservice ")]
    assert [(name, help_text) for name, _, help_text in fish] == [
        (verb.name, verb.summary) for verb in VERBS
    ]
    zsh = completions("zsh", "scriptservice ")
    assert all(any(f'"{name}"' in line for line in zsh) for name in NAMES)


def test_a_shell_completes_the_options_of_a_verb() -> None:
    assert completions("bash", "scriptservice serve --max-r") == ["--max-running"]
    assert completions("bash", "scriptservice backup --da") == ["--data-dir", "--database"]
    assert completions("bash", "scriptservice list --st") == ["--status"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    script = cli(_SCRIPTSERVICE_COMPLETE=f"source_{shell}").stdout
    assert f"complete_{shell}" in script
    assert "scriptservice" in script


def test_the_script_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    ended = subprocess.run(
        # A shell in between: its name is looked for among the ancestors.
        ["/bin/bash", "-c", f"{sys.executable} -m scriptservice.cli --install-completion; exit $?"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"},
    )
    assert ended.returncode == 0, ended.stderr
    assert "complete_bash" in (tmp_path / ".bash_completions" / "scriptservice.sh").read_text()
    assert "scriptservice" in (tmp_path / ".bashrc").read_text()


# Imports

IMPORTED = """
import json, sys
from scriptservice.cli.main import main
main({words!r})
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def imported(*words: str) -> set[str]:
    """Return the modules that a verb has imported when it is done."""
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(words=list(words))],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    return set(json.loads(ended.stderr))


def verb_modules() -> set[str]:
    return {f"scriptservice.cli.{verb.function.partition('.')[0]}" for verb in VERBS} - {
        "scriptservice.cli.main"
    }


def test_the_list_of_verbs_imports_none_of_them() -> None:
    modules = imported("--help")
    assert not modules & verb_modules()
    assert not modules & {"httpx2", "pydantic", "rich", "scriptservice.client"}


def test_version_needs_not_even_typer() -> None:
    assert "typer" not in imported("version")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_verb_imports_its_own_module_only(verb: object) -> None:
    own = f"scriptservice.cli.{verb.function.partition('.')[0]}"  # type: ignore[attr-defined]
    modules = imported(verb.name, "--help")  # type: ignore[attr-defined]
    assert modules & verb_modules() == {own} - {"scriptservice.cli.main"}
    assert "rich" not in modules
    assert ("httpx2" in modules) == (verb.name in CLIENT_VERBS)  # type: ignore[attr-defined]
    assert ("pydantic" in modules) == (verb.name in SERVICE_VERBS)  # type: ignore[attr-defined]


# Extras


@pytest.mark.parametrize("verb", SERVICE_VERBS)
def test_a_service_that_is_not_installed_is_one_line(verb: str) -> None:
    ended = cli_without(set(SERVER_MODULES), verb)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"scriptservice: cannot {verb}: the service is not installed (")
    assert line.endswith("install it with: pip install 'scriptservice[server]'")


@pytest.mark.parametrize("missing", SERVER_MODULES)
def test_each_module_of_the_service_is_missed(missing: str) -> None:
    ended = cli_without({missing}, "serve", "--data-dir", "/no/such")
    assert ended.returncode == 1
    assert f"({missing} is missing)" in ended.stderr


def test_the_modules_of_the_service_are_those_of_the_extra() -> None:
    extra = {
        requirement.partition(";")[0].rstrip("0123456789.>=<,").lower().replace(".", "-")
        for requirement in requires("scriptservice") or []
        if "extra == 'server'" in requirement or 'extra == "server"' in requirement
    }
    distributions = packages_distributions()
    named = {
        re.sub("[._]", "-", each.lower()) for name in SERVER_MODULES for each in distributions[name]
    }
    assert extra <= named
    assert len(extra) > 5


@pytest.mark.parametrize("verb", ["serve", "migrate"])
@pytest.mark.parametrize("url", ["postgresql://u:secret@db/x", "postgres://u:secret@db/x"])
def test_a_driver_that_is_not_installed_is_one_line(verb: str, url: str) -> None:
    ended = cli_without({"psycopg"}, verb, "--database", url)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.endswith("install it with: pip install 'scriptservice[server,postgresql]'")
    assert "secret" not in line


@pytest.mark.parametrize("verb", CLIENT_VERBS)
def test_client_verbs_work_without_the_service(verb: str) -> None:
    missing = {*SERVER_MODULES, "psycopg", "click"}
    ended = cli_without(missing, verb, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    url = "http://127.0.0.1:0"
    words = {
        "login": [url],
        "list": ["--url", url],
        "hosts": ["--url", url],
        "run": ["--url", url, "true"],
        "signal": ["--url", url, "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55", "HUP"],
    }.get(verb, ["--url", url, "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"])
    ended = cli_without(missing, verb, *words, typed="token" if verb == "login" else "")
    assert "Traceback" not in ended.stderr
    assert ended.returncode == (125 if verb == "run" else 1)
    assert len(ended.stderr.splitlines()) == 1


def test_a_shell_completes_the_verbs_where_the_service_is_not_installed() -> None:
    program = WITHOUT.format(missing=set(SERVER_MODULES), words=[])
    for line, expected in (("scriptservice m", ["migrate"]), ("scriptservice serve --ma", [])):
        ended = subprocess.run(
            [sys.executable, "-c", program],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env={
                **os.environ,
                "_SCRIPTSERVICE_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(line.split(" ")) - 1),
            },
        )
        assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, expected, "")
