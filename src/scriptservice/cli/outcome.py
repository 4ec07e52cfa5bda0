"""The exit code that tells how a command ended, for the verbs that follow a command to its end."""

import sys

from scriptservice.cli.exit_codes import NOT_RUN, SIGNALLED, TIMED_OUT
from scriptservice.client import Command
from scriptservice.model import Status, signal_number


def exit_code_of(command: Command) -> int:
    """Return the exit code for a finished command. If the code says too little, print the reason.

    Args:
        command: the finished command.
    """
    if command.status is Status.TIMED_OUT and command.started_at is not None:
        print(f"scriptservice: {command.reason or 'timed out'}", file=sys.stderr)
        return TIMED_OUT
    never_ran = command.started_at is None
    if command.status is Status.LOST or never_ran:
        reason = command.reason or "it did not run"
        print(f"scriptservice: {command.status}: {reason}", file=sys.stderr)
        return TIMED_OUT if command.status is Status.TIMED_OUT else NOT_RUN
    if command.exit_code is not None:
        return command.exit_code
    if command.signal is not None:
        return SIGNALLED + signal_number(command.signal)
    return NOT_RUN
