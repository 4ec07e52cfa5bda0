"""A look inside a server process: how many objects it has, told when a signal asks for it.

A server is started isolated from the environment (``-I``), so the probe comes with an interpreter
of its own: a virtual environment that sees the packages of this one.
"""

import json
import os
import signal
import site
import sys
import venv
from pathlib import Path
from typing import Any

from support.service import Service, eventually

_PROBE = """
import gc, json, os, signal, sys
from collections import Counter

def tell(*_):
    gc.collect()
    types = Counter(map(type, gc.get_objects()))
    kinds = {f"{each.__module__}.{each.__qualname__}": count for each, count in types.items()}
    found = {"blocks": sys.getallocatedblocks(), "kinds": kinds}
    path = os.environ["INSIDE_TOLD"]
    with open(path + ".new", "w") as file:
        json.dump(found, file)
    os.rename(path + ".new", path)

if "scriptservice.server" in sys.orig_argv:
    signal.signal(signal.SIGUSR2, tell)
"""


def python_with_a_probe(directory: Path) -> str:
    """Return an interpreter whose server processes tell what is in them."""
    venv.create(directory / "venv", symlinks=True)
    (packages,) = (directory / "venv" / "lib").glob("python*/site-packages")
    (packages / "inside_probe.py").write_text(_PROBE)
    (packages / "a.pth").write_text("import inside_probe\n")
    (packages / "b.pth").write_text("".join(f"{each}\n" for each in _paths()))
    return str(directory / "venv" / "bin" / "python")


def _paths() -> list[str]:
    import scriptservice

    source = str(Path(scriptservice.__file__).parent.parent)
    return [
        source,
        *site.getsitepackages(),
        *(each for each in sys.path if each.endswith("-packages")),
    ]


def look_inside(service: Service) -> dict[str, Any]:
    """Return what a server has: memory blocks of Python, and objects by their type."""
    path = Path(service.environment["INSIDE_TOLD"])
    path.unlink(missing_ok=True)
    os.kill(service.server_pid, signal.SIGUSR2)
    eventually(path.exists, "the server to tell what is in it")
    return dict(json.loads(path.read_text()))
