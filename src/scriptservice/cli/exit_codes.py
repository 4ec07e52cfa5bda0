"""Exit codes of the command line, and the line on stderr that goes with a failure.

Every verb may import this module: it needs nothing but Typer.
"""

import sys

import typer

REFUSED = 1
USAGE = 2
TIMED_OUT = 124
NOT_RUN = 125
SIGNALLED = 128
"""Added to the number of the signal that ended a script."""
INTERRUPTED = 130
BROKEN_PIPE = 141


def fail(message: str, code: int = REFUSED) -> typer.Exit:
    """Print one line to stderr, and return the exception that ends the program.

    Args:
        message: what cannot be done, and why.
        code: the exit code.
    """
    print(f"scriptservice: {message}", file=sys.stderr)
    return typer.Exit(code)
