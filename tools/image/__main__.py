"""Builds the image and runs the services of docker-compose.yml without a container engine.

The program starts itself again in new namespaces, twice. In the first (mounts and processes) it
builds the image with the machine's network. In the second it also has a network of its own. There
it runs the containers, so that their ports do not collide with other programs. Outside of these
namespaces there is only one directory of plain files, which is removed at the end.
"""

import argparse
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.image import build, check, dockerfile, package_settings, roots

CHECKOUT = Path(__file__).parents[2]
PACKAGES = [
    "ca-certificates", "gcc", "libc6-dev", "postgresql", "python3", "python3-pip", "python3-venv",
]  # fmt: skip
NEEDED = ["chroot", "debootstrap", "mount", "node", "npm", "nsenter", "setpriv", "unshare"]
_IFF_UP = 1
_SIOCSIFFLAGS = 0x8914


def main() -> int:
    arguments = _arguments()
    if arguments.inside == "build":
        return _build_and_run(arguments)
    if arguments.inside == "run":
        _bring_up_loopback()
        layers = [Path(layer) for layer in arguments.layers.split(":")]
        return check.run(CHECKOUT, layers, Path(arguments.work), with_database=arguments.database)
    if os.geteuid() != 0:
        return _cannot("only root can make root directories; run it as root")
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return _cannot(f"not installed: {', '.join(missing)}")
    work = Path(tempfile.mkdtemp(prefix="scriptservice-image-", dir=arguments.directory))
    work.chmod(0o755)
    try:
        outer = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        outer += ["--mount-proc"]
        return _again(outer, arguments, inside="build", work=str(work))
    finally:
        _remove(work)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/check-image", description=__doc__)
    parser.add_argument(
        "--suite",
        default="bookworm",
        help="Debian release with Python 3.11 or later (default: bookworm)",
    )
    parser.add_argument("--base", help="use this root directory that debootstrap made earlier")
    parser.add_argument("--directory", help="directory to work in; needs 2 GB (default: in /tmp)")
    parser.add_argument(
        "--no-database",
        dest="database",
        action="store_false",
        help="run the service on SQLite, without PostgreSQL",
    )
    for name in ("inside", "work", "layers"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    return parser.parse_args()


def _cannot(why: str) -> int:
    print(f"cannot check the image: {why}", file=sys.stderr)
    return 1


def _again(under: list[str], arguments: argparse.Namespace, **more: str) -> int:
    """Run this program again in new namespaces; return its exit code.

    Args:
        under: the command that makes the namespaces, with its arguments.
        arguments: arguments of this run, which the new run gets too.
        more: further arguments of the new run.
    """
    options = {name: value for name, value in {**vars(arguments), **more}.items() if value}
    words = [f"--{name}={value}" for name, value in options.items() if name != "database"]
    words += [] if arguments.database else ["--no-database"]
    return subprocess.run(
        [*under, sys.executable, "-m", "tools.image", *words], check=False
    ).returncode


def _build_and_run(arguments: argparse.Namespace) -> int:
    work = Path(arguments.work)
    base = Path(arguments.base) if arguments.base else work / "debian"
    if not arguments.base:
        print(f"making Debian {arguments.suite}, in place of the official images", flush=True)
        roots.make_debian(base, arguments.suite, PACKAGES)
    # Put these changes into layers above the Debian, so that a root given by --base is not changed.
    python, node = work / "python", work / "node"
    (python / "usr/local/bin").mkdir(parents=True)
    roots.like_python_image(python)
    roots.like_node_image(node)
    bases = {"python": [python, base], "node": [node, base]}
    inputs = build.BuildInputs(CHECKOUT, bases, package_settings.settings_by_command())
    print("building the stages of the Dockerfile", flush=True)
    image, layers = build.build(dockerfile.parse(CHECKOUT / "Dockerfile"), inputs, work)
    print(f"the image adds {image.bytes() / 1e6:.0f} MB to its base", flush=True)
    joined = ":".join(map(str, layers))
    return _again(["unshare", "--net"], arguments, inside="run", layers=joined)


def _bring_up_loopback() -> None:
    """Bring up the loopback interface of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _remove(work: Path) -> None:
    """Remove the plain files. The mounts have disappeared together with their namespace."""
    mounts = Path("/proc/self/mountinfo").read_text()
    if str(work) in mounts:
        print(f"cannot remove {work}: something is mounted below it", file=sys.stderr)
        return
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(work)], check=True)


if __name__ == "__main__":
    sys.exit(main())
