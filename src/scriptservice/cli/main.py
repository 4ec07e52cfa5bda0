"""The entry point of ``scriptservice``, the command line."""

import sys

from scriptservice.version import __version__


def main(words: list[str] | None = None) -> int:
    """Run the verb that the arguments name; return the exit code.

    Args:
        words: the arguments; None for the arguments of this process.
    """
    words = sys.argv[1:] if words is None else words
    if words in (["version"], ["--version"]):
        version()  # Typer is not used, because its import takes longer than Python's own start.
        return 0
    from scriptservice.cli.app import run_verb

    return run_verb(["--help"] if words in ([], ["-h"], ["help"]) else words)


def version() -> None:
    """Print the version."""
    print(__version__)
