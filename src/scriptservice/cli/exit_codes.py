"""Exit codes of the command line, and the function that reports a failure on stderr.

Every verb may import this module, because it needs only Typer.
"""

import sys

import typer

REFUSED = 1
USAGE = 2
TIMED_OUT = 124
NOT_RUN = 125
SIGNALLED = 128
"""The exit code is this number plus the number of the signal that ended the script."""
INTERRUPTED = 130
BROKEN_PIPE = 141


def fail(message: str, code: int = REFUSED) -> typer.Exit:
    """Print one line to stderr; return the exception that the caller raises to end the program.

    Args:
        message: what cannot be done, and why.
        code: the exit code.
    """
    print(f"scriptservice: {message}", file=sys.stderr)
    return typer.Exit(code)
