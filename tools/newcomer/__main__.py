"""Clones the last commit into bare Debian root directories and runs scripts/test there.

Each run has mount and process namespaces of its own. So its mounts and processes are gone when the
run ends. A root contains a minimal Debian, python3-pip and what --with adds. The last line of each
run says how many tests were skipped because something is missing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.image import package_settings, roots

CHECKOUT = Path(__file__).parents[2]
SUITES = ("bookworm", "trixie")
USERS = ("root", "ordinary")
HOME = "/home/newcomer"
PACKAGES = ["ca-certificates", "python3", "python3-pip"]
EXTRAS = {
    "compiler": ["gcc", "libc6-dev"],
    "browser": ["chromium", "fonts-dejavu-core"],
    "npm": [],  # this machine's npm is used, because Debian's may be too old
    "cgroup": [],  # this machine's cgroup file system is mounted in the root
}
NEEDED = ["chroot", "debootstrap", "git", "mount", "setpriv", "unshare"]
NAMESPACES = [
    "unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
    "--mount-proc",
]  # fmt: skip


def main() -> int:
    arguments = _arguments()
    if arguments.inside:
        return _run_tests(arguments)
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        why = "only root can make root directories; run it as root"
        if missing:
            why = f"not installed: {', '.join(missing)}"
        print(f"cannot test as a newcomer: {why}", file=sys.stderr)
        return 1
    directory = Path(arguments.directory or tempfile.mkdtemp(prefix="scriptservice-newcomer-"))
    results: dict[str, tuple[int, float]] = {}
    try:
        for suite in arguments.suite or SUITES:
            base = _base(directory, suite, arguments.extra)
            for user in arguments.user or USERS:
                results[f"{suite} {user}"] = _one_run(arguments, base, suite, user)
    finally:
        if not arguments.directory:
            subprocess.run(["rm", "-rf", "--one-file-system", "--", str(directory)], check=True)
    for name, (code, seconds) in results.items():
        print(f"{name}: {'passed' if code == 0 else f'failed ({code})'} in {seconds:.0f} s")
    return max(code for code, _ in results.values())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test-newcomer", description=__doc__)
    parser.add_argument(
        "--suite", action="append", choices=SUITES, help="Debian release (default: both)"
    )
    parser.add_argument(
        "--user", action="append", choices=USERS, help="who runs the tests (default: both)"
    )
    parser.add_argument(
        "--with",
        action="append",
        dest="extra",
        choices=[*EXTRAS],
        default=[],
        help="add this to the bare Debian; may be repeated",
    )
    parser.add_argument(
        "--directory", help="directory to work in and to keep the Debian roots; needs 3 GB"
    )
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help="arguments of scripts/test, after --")
    return parser.parse_args()


def _base(directory: Path, suite: str, extras: list[str]) -> Path:
    """Return the root directory of a bare Debian; make it, unless an earlier call has made it."""
    packages = [*PACKAGES, *(name for extra in sorted(extras) for name in EXTRAS[extra])]
    base = directory / "-".join([suite, *sorted(extras)])
    if not base.exists():
        print(f"== making a bare Debian {suite} with {', '.join(packages)}", flush=True)
        part = base.with_suffix(".part")
        subprocess.run(["rm", "-rf", "--one-file-system", "--", str(part)], check=True)
        roots.make_debian(part, suite, packages, under=NAMESPACES, quietly=True)
        part.rename(base)
    return base


def _one_run(arguments: argparse.Namespace, base: Path, suite: str, user: str) -> tuple[int, float]:
    """Run the tests once; return the exit code and the duration in seconds."""
    print(f"== testing on Debian {suite} as {user} user", flush=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=base.parent))
    work.chmod(0o755)
    base.parent.chmod(0o755)
    words = [f"--inside={base}:{work}", f"--user={user}"]
    words += [f"--with={extra}" for extra in arguments.extra]
    started = time.monotonic()
    try:
        program = [sys.executable, "-m", "tools.newcomer", *words, "--", *arguments.words]
        done = subprocess.run([*NAMESPACES, *program], check=False)
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", "--", str(work)], check=True)
    return done.returncode, time.monotonic() - started


def _run_tests(arguments: argparse.Namespace) -> int:
    """Make the root and run the tests in it. The caller must have made the namespaces."""
    base, work = (Path(path) for path in arguments.inside.split(":"))
    root = roots.Root(work, [base])
    root.use_network()
    (root.path / "tmp").chmod(0o1777)
    if "npm" in arguments.extra:
        _bind_npm(root)
    if "cgroup" in arguments.extra:
        root.bind(Path("/sys"), "/sys")
        subprocess.run(["mount", "--rbind", "/sys", str(root.inside("/sys"))], check=True)
    checkout = root.inside(f"{HOME}/scriptservice")
    checkout.parent.mkdir(parents=True)
    words = ["git", "-c", "safe.directory=*", "clone", "--quiet", str(CHECKOUT), str(checkout)]
    subprocess.run(words, check=True)
    settings: dict[str, str] = {}
    for each in package_settings.settings_by_command().values():
        settings |= each
    for path in package_settings.local_paths(settings):
        root.bind(path, str(path), read_only=True)
    environment = {**root.environment, **settings, "HOME": HOME, "LANG": "C.UTF-8", "CI": ""}
    as_user = []
    if arguments.user == ["ordinary"]:
        root.run("useradd", "--home-dir", HOME, "--shell", "/bin/bash", "newcomer")
        as_user = ["setpriv", "--reuid=newcomer", "--regid=newcomer", "--init-groups", "--"]
        environment |= {"USER": "newcomer", "LOGNAME": "newcomer"}
        root.run("chown", "--recursive", "newcomer:newcomer", HOME)
    root.directory = f"{HOME}/scriptservice"
    command = root.command(*as_user, "scripts/test", *arguments.words)
    return _run_as_init(command, environment)


def _run_as_init(command: list[str], environment: dict[str, str]) -> int:
    """Run a command; return its exit code.

    This process is process 1 of its namespace, so it also reaps orphans.
    """
    tests = subprocess.Popen(command, env=environment)
    while True:
        pid, status = os.wait()
        if pid == tests.pid:
            tests.returncode = os.waitstatus_to_exitcode(status)
            return tests.returncode


def _bind_npm(root: roots.Root) -> None:
    node = root.path.parent / "node"
    roots.like_node_image(node)
    subprocess.run(["cp", "-a", f"{node}/usr/local/.", f"{root.path}/usr/local/"], check=True)


if __name__ == "__main__":
    sys.exit(main())
