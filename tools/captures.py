"""Draws the terminal pictures of the README: runs the command line on a pty against a service."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 92, 30
IMAGES = Path(__file__).parents[1] / "docs" / "images"
JOB = """\
for step in configure compile test package; do
    echo "== $step"; sleep 0.4
done
echo 'warning: 2 tests are slow' >&2
"""


def capture(command: str, environment: dict[str, str], keys: dict[float, bytes]) -> str:
    """Run a command on a pty; return what its terminal shows at the end.

    Args:
        command: a command line for bash.
        environment: environment of the process.
        keys: the bytes to type, by the time at which to type them, in seconds after the start.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "-c", command], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    seen = b""
    began = time.monotonic()
    waiting = sorted(keys.items())
    while True:
        if waiting and time.monotonic() - began >= waiting[0][0]:
            os.write(terminal, waiting.pop(0)[1])
        if not select.select([terminal], [], [], 0.05)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the command has closed its side of the pty
            break
        if not data:
            break
        seen += data
    os.waitpid(pid, 0)
    os.close(terminal)
    return _without_erased_lines(seen.decode())


def _without_erased_lines(text: str) -> str:
    """Return the text that remains on the screen when the command has ended."""
    # The elapsed line ends with a newline; the cursor then goes up again and erases the line.
    text = re.sub(r"[^\n]*\r\n(?:\x1b\[\?25h)?\r\x1b\[1A\x1b\[2K", "", text)
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r\x1b[2K")[2].rpartition("\r")[2] for line in lines)


def draw(
    name: str, title: str, steps: list[tuple[str, dict[float, bytes]]], env: dict[str, str]
) -> None:
    """Run commands one after another in one terminal, and draw the terminal as an SVG file.

    Args:
        name: name of the SVG file in docs/images, without ``.svg``.
        title: title of the drawn window.
        steps: the commands, each with the keys to type (see `capture`).
        env: environment of the commands.
    """
    with open(os.devnull, "w", encoding="utf-8") as null:
        console = Console(record=True, width=COLUMNS, file=null, force_terminal=True)
        for command, keys in steps:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            console.print(Text.from_ansi(capture(command, env, keys)), end="")
        # Remove the web fonts, because a picture must not load anything from other servers.
        layout = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        console.save_svg(str(IMAGES / f"{name}.svg"), title=title, code_format=layout)
    print(f"docs/images/{name}.svg")


def main() -> None:
    """Start a service, draw every picture, end the service."""
    IMAGES.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tempfile.mkdtemp(prefix="scriptservice-captures-")
    os.chmod(directory, 0o755)
    data = f"{directory}/data"
    flags = ["--port", str(port), "--data-dir", data, "--host-name", "alpha"]
    service = subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "serve", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        Path(directory, "build.sh").write_text(JOB)
        env = {
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
            "HOME": directory,
            "PWD": directory,
            "TERM": "xterm-256color",
            "SCRIPTSERVICE_URL": f"http://127.0.0.1:{port}",
            "SCRIPTSERVICE_TOKEN": Path(data, "token").read_text().strip(),
            "LANG": "C.UTF-8",
        }
        os.chdir(directory)
        run = [
            ("scriptservice run --name build --label team=web -f build.sh", {}),
            ("scriptservice run 'echo working; exit 3'; echo \"exit code $?\"", {}),
            ("scriptservice run 'sleep 60'; echo \"exit code $?\"", {1.6: b"\x03"}),
        ]
        draw("run", "scriptservice run", run, env)
        look = [
            ("scriptservice list", {}),
            ("scriptservice run --detach 'seq 1 3; sleep 1; seq 4 6' | tee id", {}),
            ("scriptservice logs -f $(tail -c 9 id)", {}),
        ]
        draw("list", "scriptservice list, logs", look, env)
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
