"""Counts the Python objects in a server process; the process reports them at a signal.

The keeper starts servers isolated from the environment (``-I``). So the probe is installed in a
virtual environment of its own, which sees the packages of the current one.
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

def report(*_):
    gc.collect()
    types = Counter(map(type, gc.get_objects()))
    kinds = {f"{each.__module__}.{each.__qualname__}": count for each, count in types.items()}
    found = {"blocks": sys.getallocatedblocks(), "kinds": kinds}
    path = os.environ["PROBE_REPORT"]
    with open(path + ".new", "w") as file:
        json.dump(found, file)
    os.rename(path + ".new", path)

if "scriptservice.server" in sys.orig_argv:
    signal.signal(signal.SIGUSR2, report)
"""


def python_with_probe(directory: Path) -> str:
    """Return an interpreter whose server processes report their objects at SIGUSR2."""
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
    """Return what a server reports: allocated memory blocks, and the number of objects by type."""
    path = Path(service.environment["PROBE_REPORT"])
    path.unlink(missing_ok=True)
    os.kill(service.server_pid, signal.SIGUSR2)
    eventually(path.exists, "the server to report its objects")
    return dict(json.loads(path.read_text()))
