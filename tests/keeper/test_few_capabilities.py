"""The service as root with the few capabilities that the compose file leaves a container."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.scripts import unique_seconds
from support.service import Service, eventually, processes_with, running_service
from tools.image.compose import read_compose

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
NO_CAPABILITY = "CapEff:\t0000000000000000"


def drop_capabilities() -> list[str]:
    """Return a command prefix that leaves root the compose file's capabilities only."""
    if os.geteuid() != 0:
        return []
    kept = read_compose(COMPOSE)["script_service"].fields["cap_add"]
    names = ",".join(f"+{name.lower()}" for name in kept)
    return ["setpriv", f"--bounding-set=-all,{names}", "--inh-caps=-all", "--"]


@pytest.fixture(
    scope="module", params=[("cgroup", "launcher"), ("walk", "launcher"), ("walk", "fork")]
)
def limited(request: pytest.FixtureRequest) -> Iterator[Service]:
    tree, method = request.param
    flags = ["--no-use-cgroups"] if tree == "walk" else []
    flags += ["--no-use-launcher"] if method == "fork" else []
    flags += ["--shutdown-grace-seconds", "0.2"]
    with running_service(*flags, under=drop_capabilities()) as running:
        yield running


def test_it_has_the_capabilities_of_the_file_and_scripts_have_none(limited: Service) -> None:
    assert limited.process is not None
    status = Path(f"/proc/{limited.process.pid}/status").read_text()
    if os.geteuid() == 0:
        assert "CapEff:\t00000000000000e3" in status
        assert "CapBnd:\t00000000000000e3" in status
    command = limited.run("grep Cap /proc/self/status; echo by name >/dev/stdout")
    shown = limited.bytes_of(command["id"]).decode()
    assert NO_CAPABILITY in shown
    assert "by name" in shown


def test_a_stop_finds_daemons_by_their_environment(limited: Service) -> None:
    other = limited.submit("sleep 1000")["id"]
    mark = unique_seconds()
    script = f"""
        trap '' TERM
        setsid bash -c "trap '' TERM; (setsid sleep {mark} &); echo ready; exec sleep {mark}" &
        wait"""
    command = limited.submit(script, grace_seconds=0.2)["id"]
    limited.wait_for_output(command, b"ready")
    limited.client.post(f"/v1/commands/{command}/stop")
    assert limited.wait(command)["status"] == "stopped"
    # Another script runs, so orphans of an unknown command would have stayed alive.
    assert processes_with(mark) == []
    assert limited.ready()["degraded"] == []
    assert limited.get(other)["status"] == "running"


def test_private_directories_are_removed_whatever_is_in_them(limited: Service) -> None:
    script = """pwd
        mkdir -m 1777 sticky; touch sticky/x; mkdir -p a/b; touch a/b/c; chmod 0500 a/b a
        mkdir -m 0 closed; touch closed_file; chmod 0 closed_file; ln -s /etc etc"""
    command = limited.run(script, working_directory="private")
    directory = Path(limited.bytes_of(command["id"], stream="stdout").decode().strip())
    assert command["status"] == "succeeded"
    eventually(lambda: not directory.exists(), "the directory to be removed")
    assert Path("/etc/passwd").exists()


def test_after_the_keepers_death_pipes_are_read_through_survivors(limited: Service) -> None:
    mark = unique_seconds()
    directory = limited.data_dir / "work"
    script = f"echo before; until [ -e go ]; do sleep 0.01; done; echo unread; >said; sleep {mark}"
    command = limited.submit(script)["id"]
    limited.wait_for_output(command, b"before")
    assert limited.process is not None
    limited.process.send_signal(signal.SIGSTOP)
    (directory / "go").touch(mode=0o666)
    eventually((directory / "said").exists, "the script to have said it")
    limited.kill_keeper()
    limited.close_client()
    limited.start()
    assert limited.wait(command)["status"] == "lost"
    assert limited.bytes_of(command) == b"before\nunread\n"
    assert processes_with(mark) == []
