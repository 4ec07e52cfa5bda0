"""Runs the image and its database as the compose file says, and checks what the docs promise."""

import json
import re
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx

from support.service import FINAL, eventually
from tools.image import compose, dockerfile
from tools.image.compose import ComposeService
from tools.image.containers import Container
from tools.image.roots import Root

URL = "http://127.0.0.1:8000"
FIVE = "00000000000000e3"  # CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID
SECRETS = "/data/token /data/scriptservice.db /run/database/passfile /run/database/password"

LOOK_AROUND = f"""
echo "user $(id -u) $(id -gn)"
grep CapEff /proc/self/status
env | grep -i -e database -e token
for secret in {SECRETS} /proc/1/environ /proc/1/mem; do
    head -c 1 "$secret" >/dev/null 2>&1 && echo "open: $secret"
done
kill -0 1 2>/dev/null && echo "signals: 1"
echo to a name >/dev/stdout
python3 -c 'import sys; print("python", sys.version_info >= (3, 11))'
"""
DAEMON = """
trap '' TERM
setsid bash -c "trap '' TERM; (setsid sleep 4242 &); echo ready; exec sleep 4243" &
wait
"""
STUBBORN = "mkdir -m 1777 sticky; touch sticky/x; mkdir -p a/b; touch a/b/c; chmod 0500 a/b a; pwd"


class ImageCheckError(Exception):
    """The image does not do what it promises; the message says what."""


def must(condition: object, what: str) -> None:
    """Print what was checked if the condition is true.

    Args:
        condition: whether the check succeeded.
        what: what was checked, in words.

    Raises:
        ImageCheckError: the condition is false.
    """
    if not condition:
        raise ImageCheckError(what)
    print(f"  {what}", flush=True)


class Deployment:
    """The containers of the compose file, with their volumes.

    Args:
        checkout: directory that contains the Dockerfile and the compose file.
        layers: layers of the image, the topmost first.
        work: directory for root directories and volumes.
        with_database: whether to run PostgreSQL; if not, the service uses SQLite on its volume.
    """

    def __init__(
        self, checkout: Path, layers: list[Path], work: Path, *, with_database: bool
    ) -> None:
        self._services = compose.read_compose(checkout / "docker-compose.yml")
        stages = dockerfile.parse(checkout / "Dockerfile")
        self._image = stages[-1]
        self._layers = layers
        self._work = work
        self._with_database = with_database
        self._made = 0
        self._volumes = work / "volumes"
        self._volumes.mkdir()
        self.database: Container | None = None
        self.service: Container | None = None

    def up(self) -> float:
        """Start what ``docker compose up`` starts; return the seconds until the first answer."""
        if self._with_database:
            self._start_database()
        started = time.monotonic()
        words = [*self._image.last("ENTRYPOINT").words, *self._app.words("command")]
        root = self._root(self._layers)
        root.environment |= self._image.environment
        hosts = "127.0.0.1 localhost db\n"
        root.inside("/etc/hosts").write_text(hosts)
        self.service = Container(self._app, root, self._volumes, words).start()
        health = self._image.last("HEALTHCHECK").text.partition("CMD ")[2]
        test = json.loads(health)
        eventually(lambda: self._alive(self.service).health(test), "the health check", 60)
        return time.monotonic() - started

    @property
    def _app(self) -> ComposeService:
        app = self._services["script_service"]
        if self._with_database:
            return app
        environment = {**app.fields["environment"], "SCRIPTSERVICE_DATABASE": ""}
        return replace(app, fields={**app.fields, "environment": environment, "command": ["serve"]})

    def _start_database(self) -> None:
        service = self._services["db"]
        root = self._root(self._layers[-2:])
        entrypoint = root.inside("/usr/local/bin/docker-entrypoint.sh")
        entrypoint.write_text((Path(__file__).parent / "database.sh").read_text())
        entrypoint.chmod(0o755)
        words = [*service.words("entrypoint"), *service.words("command")]
        self.database = Container(service, root, self._volumes, words).start()
        test = service.fields["healthcheck"]["test"][1:]
        eventually(lambda: self._alive(self.database).health(test), "the database", 60)

    def _alive(self, container: Container | None) -> Container:
        """Return a container whose process 1 runs.

        Raises:
            ImageCheckError: the container has ended.
        """
        assert container is not None
        assert container.process is not None
        if container.process.poll() is not None:
            raise ImageCheckError(f"{container.service.name} ended: {container.output()}")
        return container

    def _root(self, below: list[Path]) -> Root:
        self._made += 1
        return Root(self._work / f"container-{self._made}", below)

    def stop(self, container: Container) -> tuple[int, float]:
        """Stop a container; return its exit code and the seconds until it had ended."""
        started = time.monotonic()
        code = container.stop(container.service.seconds("stop_grace_period"))
        return code, time.monotonic() - started

    def close(self) -> None:
        for container in (self.service, self.database):
            if container is not None:
                container.close()


class Api:
    """The HTTP API with a token."""

    def __init__(self, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=URL, headers=headers, timeout=30)

    def get(self, path: str) -> Any:
        return self._client.get(path).raise_for_status().json()

    def submit(self, script: str, **fields: Any) -> str:
        answer = self._client.post("/v1/commands", json={"script": script, **fields})
        return str(answer.raise_for_status().json()["id"])

    def stop(self, command: str) -> None:
        self._client.post(f"/v1/commands/{command}/stop").raise_for_status()

    def output(self, command: str) -> str:
        path = f"/v1/commands/{command}/output"
        return self._client.get(path, params={"stream": "stdout"}).raise_for_status().text

    def end(self, command: str) -> dict[str, Any]:
        def final() -> Any:
            found = self.get(f"/v1/commands/{command}")
            return found if found["status"] in FINAL else None

        return dict(eventually(final, f"the end of {command}", 60))


class Browser:
    """Does what a browser does: it has no token, opens the page and signs in there."""

    def __init__(self) -> None:
        # A browser on the host reaches the published port as localhost.
        self._client = httpx.Client(base_url=URL.replace("127.0.0.1", "localhost"), timeout=30)

    def open(self, path: str, host: str | None = None) -> httpx.Response:
        return self._client.get(path, headers={"Host": host} if host else None)

    def sign_in(self, **secret: str) -> str:
        """Sign in; return the CSRF token, which requests that change something must contain."""
        answer = self._client.post("/v1/session", json=secret)
        return str(answer.raise_for_status().json()["csrf_token"])

    def sign_out(self, csrf_token: str) -> None:
        headers = {"X-CSRF-Token": csrf_token}
        self._client.delete("/v1/session", headers=headers).raise_for_status()


def run(checkout: Path, layers: list[Path], work: Path, *, with_database: bool) -> int:
    """Run the containers and check them; return the exit code."""
    deployment = Deployment(checkout, layers, work, with_database=with_database)
    try:
        _run(deployment)
    except (ImageCheckError, AssertionError, httpx.HTTPError) as error:
        print(f"FAILED: {error}", flush=True)
        with suppress(AttributeError):
            print(deployment.service.output())  # type: ignore[union-attr]
            print(deployment.database.output())  # type: ignore[union-attr]
        return 1
    finally:
        deployment.close()
    print("the image does what it promises")
    return 0


def _run(deployment: Deployment) -> None:
    print("starting for the first time", flush=True)
    seconds = deployment.up()
    service = deployment.service
    assert service is not None
    must(True, f"answers its health check after {seconds:.1f} s")
    token = re.search(r"admin token.*: (\S+)", service.output())
    must(token, "shows the admin token in its log")
    assert token is not None
    api = Api(token[1])
    if deployment.database is not None:
        file = service.run("test", "-e", "/data/scriptservice.db")
        must(file.returncode != 0, "stores everything in PostgreSQL, not in a file")
    _check_page(service, token[1])
    first = _check_service(service, api)
    print("stopping", flush=True)
    command = api.submit("trap 'echo bye; exit 7' TERM; echo here; while :; do sleep 0.02; done")
    eventually(lambda: "here" in api.output(command), "its output")
    code, seconds = deployment.stop(service)
    allowed = service.service.seconds("stop_grace_period")
    must(code == 0, f"the service shut down in {seconds:.1f} s of {allowed:.0f} s")
    if deployment.database is not None:
        must(deployment.stop(deployment.database)[0] == 0, "the database shut down")
    print("starting new containers on the same volumes", flush=True)
    deployment.close()
    deployment.up()
    assert deployment.service is not None
    must("admin token" not in deployment.service.output(), "the token is still the same")
    must(api.get(f"/v1/commands/{first}")["status"] == "succeeded", "the first command is there")
    ended = api.end(command)
    must(ended["exit_code"] == 7, "the script that the shutdown stopped had its grace period")
    must(api.output(command) == "here\nbye\n", "its last output is stored")
    must(deployment.stop(deployment.service)[0] == 0, "the service shut down")


def _check_page(service: Container, token: str) -> None:
    browser = Browser()
    page = browser.open("/").raise_for_status()
    assets = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)
    must(assets and 'id="app"' in page.text, f"serves its page without a token: {assets}")
    for path in assets:
        asset = browser.open(path).raise_for_status()
        size, kind = len(asset.content), asset.headers["content-type"]
        must(size > 200 and "html" not in kind, f"{path}: {size:,} bytes of {kind}")
    must(browser.open("/v1/commands").status_code == 401, "serves no commands without a token")
    for name in ("127.0.0.1:8080", "localhost:8080"):
        must(browser.open("/", name).is_success, f"answers requests for the host {name}")
    must(
        browser.open("/", "script_service:8000").status_code == 421,
        "refuses requests for another host name",
    )
    code = re.search(r"sign in: \S+#code=(\S+)", service.output())
    assert code is not None, service.output()
    for how, secret in (("the token", {"token": token}), ("the link", {"code": code[1]})):
        csrf_token = browser.sign_in(**secret)
        must(browser.open("/v1/commands").is_success, f"{how} signs in")
        browser.sign_out(csrf_token)
        must(browser.open("/v1/commands").status_code == 401, "signing out ends the session")
    node = service.run("/bin/sh", "-c", "command -v node npm")
    must(node.stdout == "", "the image does not contain node and npm")
    found = service.run("find", "/opt/scriptservice", "-path", "*/ui/*", "-printf", "%f ").stdout
    kept = {Path(path).name for path in assets} | {"index.html"}
    must(kept <= set(found.split()), "the package contains the files of the page")
    must(".made-from" not in found, "the package does not contain the stamp of the page's build")


def _check_service(service: Container, api: Api) -> str:
    status = service.run("grep", "-e", "^Name", "-e", "^Cap", "/proc/1/status").stdout
    must(f"CapEff:\t{FIVE}" in status, "process 1 has five capabilities")
    line = service.run("cat", "/proc/1/cmdline").stdout.replace("\0", " ")
    must("scriptservice.keeper" in line, f"process 1 is the keeper: {line[:60]}")
    print(f"  ready: {api.get('/readyz')}")
    look = api.submit(LOOK_AROUND)
    must(api.end(look)["status"] == "succeeded", "ran a script")
    words = api.output(look)
    must("user 59999 scriptservice" in words, "it ran as the user scriptservice")
    must("CapEff:\t0000000000000000" in words, "without any capability")
    must("open:" not in words, "it could not read a secret")
    must("signals:" not in words, "it could not signal process 1")
    must(
        "database" not in words.replace("/run/database", "").lower(),
        "there is no secret in its environment",
    )
    must("to a name" in words, "it could open its own output as /dev/stdout")
    must("python True" in words, "it found the image's Python")
    _check_endings(service, api)
    return look


def _check_endings(service: Container, api: Api) -> None:
    other = api.submit("sleep 1000")
    daemon = api.submit(DAEMON, grace_seconds=0.3)
    eventually(lambda: "ready" in api.output(daemon), "its daemons")
    api.stop(daemon)
    must(
        api.end(daemon)["status"] == "stopped", "stopped a script with daemons that ignore SIGTERM"
    )
    left = service.processes()
    must(not {"4242", "4243"} & set(left), "none of the daemons is alive")
    api.stop(other)
    api.end(other)
    stubborn = api.submit(STUBBORN, working_directory="private")
    must(api.end(stubborn)["status"] == "succeeded", "ran a script in a directory of its own")
    directory = api.output(stubborn).strip()
    eventually(
        lambda: service.run("test", "-e", directory).returncode != 0, "the directory to be removed"
    )
    must(True, "its directory is removed, with the sticky and read-only directories in it")
