"""Compiles and runs the C programs of the benchmarks.

Some of them are limits. The others make a load and use almost no CPU time themselves.
"""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


@functools.cache
def program(name: str) -> str:
    """Compile ``bench/NAME.c`` at the first call; return the program's path."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("cannot measure: cc is not installed (a C compiler is needed)")
    path = os.path.join(_directory(), name)
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-o", path, str(source)], check=True)
    return path


@functools.cache
def _directory() -> str:
    directory = tempfile.mkdtemp(prefix="scriptservice-bench-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.chmod(directory, 0o755)
    return directory


def run(name: str, *args: str | float, stdin: bytes = b"") -> list[float]:
    """Run a program to its end; return the numbers that it prints.

    Args:
        name: name of the C file without ``.c``.
        args: arguments of the program.
        stdin: bytes for the program's standard input.
    """
    words = [program(name), *map(str, args)]
    done = subprocess.run(words, input=stdin, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"cannot measure: {name}: {done.stderr.decode().strip()}")
    return [float(word) for word in done.stdout.split()]
