"""What the image, the compose file and the unit say is what the code does."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scriptservice.cli import service_environment
from scriptservice.cli.main import main
from scriptservice.keeper.shutdown import FINISH_SECONDS
from scriptservice.keeper.spawn.script_user import SERVICE_USER
from scriptservice.settings import ENVIRONMENT_PREFIX, Settings
from support.service import PATIENCE_SECONDS
from tools.image.compose import ComposeService, read_compose
from tools.image.dockerfile import Stage, parse
from tools.image.dockerignore import DockerIgnore

CHECKOUT = Path(__file__).parents[2]
FILES = ("Dockerfile", "docker-compose.yml", ".dockerignore", "packaging/scriptservice.service")
UNIT = CHECKOUT / "packaging" / "scriptservice.service"
SETTINGS = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields}
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
PINNED = re.compile(r"[a-z]+:\d+(\.\d+)*(-[a-z]+)?")


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return parse(CHECKOUT / "Dockerfile")


@pytest.fixture(scope="module")
def image(stages: list[Stage]) -> Stage:
    return stages[-1]


@pytest.fixture(scope="module")
def services() -> dict[str, ComposeService]:
    return read_compose(CHECKOUT / "docker-compose.yml")


@pytest.fixture(scope="module")
def app(services: dict[str, ComposeService]) -> ComposeService:
    return services["script_service"]


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def recorded_capabilities() -> list[str]:
    text = (CHECKOUT / "docs" / "adr" / "0010-root-in-the-container.md").read_text()
    return re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)


# The image


def test_every_image_is_pinned_and_of_the_default_registry(
    stages: list[Stage], services: dict[str, ComposeService]
) -> None:
    names = {stage.name for stage in stages}
    bases = {stage.base for stage in stages} - names
    pulled = {each.fields["image"] for each in services.values() if "build" not in each.fields}
    assert bases
    for name in bases | pulled:
        assert PINNED.fullmatch(name), name
    for name in FILES:
        assert not re.search(r"https?://|\.(io|com|org)/", (CHECKOUT / name).read_text()), name


def test_the_base_is_a_python_that_the_package_allows(stages: list[Stage]) -> None:
    least = re.search(r'requires-python = ">=3\.(\d+)"', (CHECKOUT / "pyproject.toml").read_text())
    base = re.fullmatch(r"python:3\.(\d+)-slim", stages[0].base)
    assert base is not None
    assert least is not None
    assert int(base[1]) >= int(least[1])


def test_what_is_copied_is_there_and_let_through(stages: list[Stage]) -> None:
    rules = DockerIgnore(CHECKOUT / ".dockerignore").rules
    assert rules[0] == ("*", True)
    let_through = {rule for rule, leaves_out in rules if not leaves_out}
    names = {stage.name for stage in stages}
    copied = set()
    for stage in stages:
        for each in stage.all("COPY"):
            if "from" in each.flags:
                assert each.flags["from"] in names
            else:
                copied |= set(each.words[:-1])
    assert copied == let_through
    assert all((CHECKOUT / name).exists() for name in copied)


def test_what_is_made_here_stays_here() -> None:
    ignored = DockerIgnore(CHECKOUT / ".dockerignore")
    for path in (
        "tools/image/build.py",
        "scripts/check",
        "docs/node_modules",
        "web/node_modules",
        "web/node_modules/vite/package.json",
        "src/scriptservice/keeper/spawn/launcher",
        "src/scriptservice/ui",
        "src/scriptservice/ui/assets/index.js",
        "src/scriptservice/__pycache__/ids.cpython-313.pyc",
        "src/scriptservice/ids.pyc",
    ):
        assert ignored(path), path
    for path in (
        "scripts/build-launcher",
        "scripts/build-page",
        "hatch_build.py",
        "launcher/launcher.c",
        "launcher/kernel.h",
        "src/scriptservice/keeper/spawn/launcher.py",
        "web/package-lock.json",
        "web/src/main.ts",
        "src/scriptservice/server/page/page_files.py",
    ):
        assert not ignored(path), path


def test_the_page_is_built_by_a_node_that_it_allows(stages: list[Stage]) -> None:
    package = json.loads((CHECKOUT / "web" / "package.json").read_text())
    least = re.fullmatch(r">=(\d+)\.\d+", package["engines"]["node"])
    page = next(stage for stage in stages if stage.name == "page")
    base = re.fullmatch(r"node:(\d+)-slim", page.base)
    assert base is not None
    assert least is not None
    assert int(base[1]) > int(least[1])
    assert int(base[1]) % 2 == 0, "the odd ones have no long-term support"
    assert [each.text for each in page.all("RUN")] == ["scripts/build-page"]
    assert {word for each in page.all("COPY") for word in each.words[:-1]} == {
        "scripts/build-page",
        "web",
    }


def test_the_wheel_takes_the_page_from_its_stage(stages: list[Stage]) -> None:
    names = [stage.name for stage in stages]
    assert names.index("page") < names.index("wheel")
    wheel = next(stage for stage in stages if stage.name == "wheel")
    steps = [each for each in wheel.instructions if each.name in {"COPY", "RUN"}]
    (taken,) = [each for each in steps if each.flags.get("from") == "page"]
    ui = "src/scriptservice/ui"
    assert taken.words == [f"/build/{ui}", f"./{ui}"]
    (building,) = [each for each in steps if "pip wheel" in each.text]
    assert steps.index(taken) < steps.index(building)


def test_the_launcher_is_built_by_the_same_python_with_a_compiler(stages: list[Stage]) -> None:
    launcher = next(stage for stage in stages if stage.name == "launcher")
    assert f"{launcher.base}-slim" == stages[0].base
    assert [each.text for each in launcher.all("RUN")] == ["scripts/build-launcher"]
    assert {word for each in launcher.all("COPY") for word in each.words[:-1]} == {
        "scripts/build-launcher",
        "launcher",
    }
    wheel = next(stage for stage in stages if stage.name == "wheel")
    steps = [each for each in wheel.instructions if each.name in {"COPY", "RUN"}]
    (taken,) = [each for each in steps if each.flags.get("from") == "launcher"]
    built = "src/scriptservice/keeper/spawn"
    assert taken.words == [f"/build/{built}", f"./{built}"]
    (building,) = [each for each in steps if "pip wheel" in each.text]
    assert steps.index(taken) < steps.index(building)


def test_what_the_package_needs_is_copied_and_locked(stages: list[Stage]) -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    wheel = next(stage for stage in stages if stage.name == "wheel")
    copied = [word for each in wheel.all("COPY") for word in each.words[:-1]]
    for name in re.findall(r'(?:readme = |license-files = \[)"([^"]+)"', project):
        assert name in copied
    fetching = [each.text for each in wheel.all("RUN") if "pip download" in each.text]
    assert len(fetching) == 1
    assert "--require-hashes" in fetching[0]
    assert "requirements.lock" in fetching[0]
    for each in wheel.all("RUN"):
        if re.search(r"pip (.* )?(install|wheel)", each.text):
            assert "--no-index" in each.text
    for stage in stages:
        assert all("--no-cache-dir" in run.text for run in stage.all("RUN") if "pip " in run.text)


def test_the_last_stage_brings_no_tools(image: Stage) -> None:
    words = " ".join(run.text for run in image.all("RUN"))
    assert not re.search(r"\b(pip|npm|node|apt|apt-get|curl|wget|gcc)\b", words)
    assert [each.words for each in image.all("COPY")] == [["/opt/scriptservice"] * 2]


def test_process_1_becomes_the_keeper(image: Stage, app: ComposeService) -> None:
    entrypoint, command = image.last("ENTRYPOINT"), image.last("CMD")
    assert entrypoint.is_exec_form
    assert command.is_exec_form
    assert entrypoint.words == ["/opt/scriptservice/bin/scriptservice"]
    assert command.words == ["serve"]
    assert image.all("USER") == []  # the service is root; its scripts are not
    assert "init" not in app.fields
    assert "entrypoint" not in app.fields


def test_the_images_user_is_the_one_that_scripts_run_as(image: Stage) -> None:
    words = " ".join(run.text for run in image.all("RUN"))
    uid = str(DEFAULTS["script_uid"])
    assert re.search(rf"groupadd --gid {uid} {SERVICE_USER}\b", words)
    assert re.search(rf"useradd --uid {uid} --gid {uid} .* {SERVICE_USER}\b", words)


def test_every_variable_is_a_setting(image: Stage, app: ComposeService) -> None:
    assert image.environment.keys() <= SETTINGS
    assert app.fields["environment"].keys() <= SETTINGS | {service_environment.TOKEN_NAME}


def test_port_and_directory_are_the_same_everywhere(image: Stage, app: ComposeService) -> None:
    environment = image.environment
    assert environment["SCRIPTSERVICE_HOST"] == "0.0.0.0"
    port, directory = environment["SCRIPTSERVICE_PORT"], environment["SCRIPTSERVICE_DATA_DIR"]
    assert image.last("EXPOSE").words == [port]
    assert app.fields["ports"] == [f"127.0.0.1:{DEFAULTS['port']}:{port}"]
    assert image.last("VOLUME").words == [directory]
    assert app.volumes["data"] == (directory, False)


def health_command(image: Stage) -> list[str]:
    text = image.last("HEALTHCHECK").text.partition("CMD ")[2]
    words: list[str] = yaml.safe_load(text)
    return [sys.executable, *words[1:]]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_tells_health(image: Stage, status: int | None, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if status is None:
            server.close()
        environment = {**os.environ, "SCRIPTSERVICE_PORT": str(port)}
        check = subprocess.Popen(health_command(image), env=environment, stderr=subprocess.DEVNULL)
        if status is not None:
            server.settimeout(PATIENCE_SECONDS)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(4096).startswith(b"GET /healthz ")
                connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        assert check.wait(PATIENCE_SECONDS) == code


# The compose file


def test_capabilities_are_those_of_the_decision(
    app: ComposeService, unit: dict[str, list[str]]
) -> None:
    recorded = recorded_capabilities()
    assert len(recorded) == 5
    assert app.fields["cap_drop"] == ["ALL"]
    assert sorted(app.fields["cap_add"]) == sorted(recorded)
    bounding = unit["CapabilityBoundingSet"][0].split()
    assert sorted(bounding) == sorted(f"CAP_{name}" for name in recorded)


def test_there_is_time_to_end_in_order(app: ComposeService, unit: dict[str, list[str]]) -> None:
    needed = DEFAULTS["shutdown_grace_seconds"] + FINISH_SECONDS
    assert app.seconds("stop_grace_period") > needed
    assert int(unit["TimeoutStopSec"][0]) > needed


def test_flags_are_those_of_serve(
    app: ComposeService, unit: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--help"]) == 0
    shown = capsys.readouterr().out
    verb, *flags = app.words("command")
    start, unit_verb, *unit_flags = unit["ExecStart"][0].split()
    assert verb == unit_verb == "serve"
    assert start == "/opt/scriptservice/bin/scriptservice"
    assert "--migrate" in flags
    for flag in [*flags, *unit_flags]:
        assert re.search(rf"{flag}\b", shown), flag


def test_both_generations_of_compose_understand_the_file(
    services: dict[str, ComposeService],
) -> None:
    whole = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    # A version would be asked for by one and warned of by the other; named volumes by both.
    assert whole.keys() == {"services", "volumes"}
    used = {name for each in services.values() for name in each.volumes}
    assert used == whole["volumes"].keys()
    for service in services.values():
        assert isinstance(service.fields.get("ports", []), list)
        assert service.fields["restart"] == "unless-stopped"
    assert services["script_service"].fields["depends_on"] == {
        "db": {"condition": "service_healthy"}
    }


def test_the_password_is_made_there_and_read_as_a_file(
    services: dict[str, ComposeService],
) -> None:
    app, database = services["script_service"], services["db"]
    url = app.environment["SCRIPTSERVICE_DATABASE"]
    user, host, name, query = re.fullmatch(r"postgresql://(\w+)@(\w+)/(\w+)\?(.*)", url).groups()  # type: ignore[union-attr]
    assert host == database.name
    assert database.environment == {"POSTGRES_USER": user, "POSTGRES_DB": name}
    assert query == f"passfile={app.volumes['database-password'][0]}/passfile"
    assert app.volumes["database-password"][1], "the service only reads it"
    assert f"db:5432:{name}:{user}:" in database.words("entrypoint")[2]
    assert "password" not in str(app.fields["environment"]).lower()


def test_the_password_is_made_once_and_for_root_alone(
    services: dict[str, ComposeService], tmp_path: Path
) -> None:
    shell, flags, script, name = services["db"].words("entrypoint")
    here = script.replace("/run/database", str(tmp_path))
    image = tmp_path / "docker-entrypoint.sh"
    image.write_text('#!/bin/sh\necho "$POSTGRES_PASSWORD $*"; umask\n')
    image.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [shell, flags, here, name, "postgres", "-c", "x=y"]

    def start() -> list[str]:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    password, *rest = start()
    assert re.fullmatch("[0-9a-f]{64}", password)
    assert rest == ["postgres", "-c", "x=y", "0022"]
    for file in ("password", "passfile"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
    entry = f"db:5432:scriptservice:scriptservice:{password}\n"
    assert (tmp_path / "passfile").read_text() == entry
    (tmp_path / "passfile").unlink()
    assert start()[0] == password
    assert (tmp_path / "passfile").read_text() == entry
    assert {each.name for each in tmp_path.iterdir()} == {"password", "passfile", image.name}


# The unit


def test_the_unit_says_what_the_service_relies_on(unit: dict[str, list[str]]) -> None:
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert unit["KillMode"] == ["mixed"]
    assert unit["Delegate"] == ["yes"]
    assert unit["Restart"] == ["always"]
    assert unit["OOMPolicy"] == ["continue"]
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert int(unit["WatchdogSec"][0]) >= 60
    assert int(unit["LimitNOFILE"][0].partition(":")[2]) >= 100_000
    assert "ProtectControlGroups" not in unit
    assert "User" not in unit
    # As the keeper makes it, and where root's data is by default.
    assert unit["StateDirectoryMode"] == ["0711"]
    assert unit["StateDirectory"] == ["scriptservice"]


@pytest.mark.needs_systemd
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    # It looks for the program, which is not installed here.
    text = UNIT.read_text().replace("/opt/scriptservice/bin/scriptservice", sys.executable)
    (tmp_path / UNIT.name).write_text(text)
    words = ["systemd-analyze", "verify", str(tmp_path / UNIT.name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (ours, done.returncode) == ([], 0)
    words = ["systemd-analyze", "security", "--offline=yes", str(UNIT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    print(done.stdout)  # for whoever looks; there is no level that scripts could not break
    assert "Overall exposure level" in done.stdout
