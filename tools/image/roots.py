"""Makes root directories: overlay mounts of layers over a Debian.

Everything in this module runs in a mount namespace of its own (see ``__main__``). No process
outside sees the mounts, so nobody can remove files of the machine through them by mistake. The
kernel removes the mounts when the last process in the namespace ends.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}


def run(*words: str | Path, quietly: bool = False) -> None:
    output = subprocess.DEVNULL if quietly else None
    subprocess.run([str(word) for word in words], check=True, stdout=output)


class Root:
    """One root directory: a new layer over other layers, as in an image.

    Args:
        directory: the directory in which this class makes the layer, the mount and the work
            directory of overlayfs.
        below: the layers below, the topmost first.
    """

    def __init__(self, directory: Path, below: list[Path]) -> None:
        self.layer = directory / "layer"
        self.path = directory / "root"
        for each in (self.layer, self.path, directory / "work"):
            each.mkdir(parents=True)
        self.layer.chmod(0o755)
        lower = ":".join(map(str, below))
        options = f"lowerdir={lower},upperdir={self.layer},workdir={directory / 'work'}"
        run("mount", "-t", "overlay", "-o", options, "overlay", self.path)
        run("mount", "-t", "proc", "proc", self.path / "proc")
        self._devices()
        self.environment: dict[str, str] = {"PATH": PATH}
        self.directory = "/"

    def _devices(self) -> None:
        devices = self.path / "dev"
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", devices)
        for name, minor in DEVICES.items():
            os.mknod(devices / name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            (devices / name).chmod(0o666)
        for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            (devices / name).symlink_to(f"/proc/self/fd{target}")
        (devices / "pts").mkdir()
        own = "newinstance,mode=0620,ptmxmode=0666"
        run("mount", "-t", "devpts", "-o", own, "devpts", devices / "pts")
        (devices / "ptmx").symlink_to("pts/ptmx")
        (devices / "shm").mkdir(mode=0o1777)
        (devices / "shm").chmod(0o1777)

    def inside(self, path: str) -> Path:
        """Return the path on this machine of a path inside the root."""
        return self.path / path.lstrip("/")

    def use_network(self) -> None:
        """Let programs in the root resolve host names as programs on this machine do."""
        for name in ("etc/resolv.conf", "etc/hosts"):
            shutil.copyfile(f"/{name}", self.path / name)

    def bind(self, source: Path, path: str, *, read_only: bool = False) -> None:
        """Mount a directory or a file of this machine into the root."""
        inside = self.inside(path)
        if source.is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        else:
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        run("mount", "--bind", source, inside)
        if read_only:
            run("mount", "-o", "remount,bind,ro", inside)

    def command(self, *words: str) -> list[str]:
        """Return a command that runs ``words`` in the root, in its working directory."""
        script = 'cd "$1" && shift && exec "$@"'
        return ["chroot", str(self.path), "/bin/sh", "-c", script, "sh", self.directory, *words]

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Run a program in the root, and wait until it has ended.

        Raises:
            subprocess.CalledProcessError: the exit code is not 0.
        """
        subprocess.run(
            self.command(*words), check=True, env={**self.environment, **(environment or {})}
        )

    def bytes(self) -> int:
        """Return the size of this root's own layer in bytes."""
        words = ["du", "--summarize", "--bytes", "--one-file-system", str(self.layer)]
        return int(subprocess.run(words, check=True, capture_output=True).stdout.split()[0])


def make_debian(
    directory: Path,
    suite: str,
    packages: list[str],
    *,
    under: Sequence[str] = (),
    quietly: bool = False,
) -> None:
    """Make a root directory with a minimal Debian and some packages.

    Args:
        directory: the root directory; it is created.
        suite: name of the Debian release.
        packages: names of packages.
        under: a command that runs debootstrap, with its arguments. debootstrap leaves mounts
            behind, so the command should run it in a mount namespace of its own.
        quietly: whether to print nothing.
    """
    with_packages = ",".join(packages)
    words = ["debootstrap", "--variant=minbase", f"--include={with_packages}", suite]
    run(*under, *words, directory, quietly=quietly)


def like_python_image(base: Path) -> None:
    """Put Debian's Python at the path where the official Python image has its Python."""
    for name in ("python", "python3", "pip"):
        link = base / "usr/local/bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("/usr/bin/" + {"python": "python3"}.get(name, name))


def like_node_image(layer: Path) -> None:
    """Put this machine's node and npm into a layer, at the paths of the official Node image.

    The layer is mounted over a Debian. This Debian has the C and C++ libraries that the official
    builds of node need. A node that needs other libraries does not start there. npm's settings are
    not copied.
    """
    node = subprocess.run(["node", "--print", "process.execPath"], capture_output=True, check=True)
    npm = Path(shutil.which("npm") or "").resolve().parents[1]
    for directory in ("bin", "lib/node_modules"):
        (layer / "usr/local" / directory).mkdir(parents=True)
    shutil.copy2(node.stdout.strip().decode(), layer / "usr/local/bin/node")
    own = layer / "usr/local/lib/node_modules/npm"
    shutil.copytree(npm, own, symlinks=True, ignore=shutil.ignore_patterns("npmrc"))
    (layer / "usr/local/bin/npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
