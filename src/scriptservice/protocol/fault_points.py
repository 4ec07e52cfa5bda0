"""Named points where a test can end, stop or fail a process of the service; else they do nothing.

They stand around every step after which a death leaves something half done. They act only in a
process that was started with the variable below, which names a directory of the test's: a file
there with the name of a point says what is to happen when a process comes to it. The first that
does takes the file away, so that it happens once, whoever is started next.

The variable is read here, and not with the settings: a test has to reach the process of an
upgrade, and whatever runs before there is any configuration.
"""

import errno
import os
import signal

VARIABLE = "SCRIPTSERVICE_FAULT_POINTS"

KEEPER_POINTS = {
    "journal.append": "a record that is not output is about to be written",
    "journal.appended": "it is in the file, and nothing knows of it yet",
    "journal.splice": "output waits in its pipe",
    "journal.headed": "the header that announces it is in the file, the output still in its pipe",
    "journal.spliced": "it is in the file, and nothing knows of it yet",
    "journal.rotate": "another segment is about to begin",
    "journal.rotated": "it has begun, with a snapshot of what is open",
    "journal.drop": "a segment that is recorded is about to be deleted",
    "journal.dropped": "it is deleted",
    "spawn.starting": "it is on record that a script is to start, and it has not",
    "spawn.process": "all that its process needs is there, and it is not",
    "spawn.spawned": "its process is there, and may not be the script yet",
    "spawn.begun": "it is the script, and that is not on record",
    "spawn.started": "that is on record, and nobody watches its output yet",
    "end.reaped": "a script's exit is known, and not on record",
    "end.exited": "it is on record",
    "end.drained": "its tree and its output have ended",
    "end.closed": "that is on record",
    "stop.asked": "a script is to be stopped",
    "stop.recorded": "that is on record, and no signal was sent",
    "stop.signalled": "the signal was sent",
    "stop.killing": "the grace is over, and nobody was killed",
    "acknowledged.told": "the child says how far the journal is recorded",
    "acknowledged.noted": "that is noted for the next start",
    "recovery.read": "a new keeper knows what a dead one left",
    "recovery.killed": "it has killed survivors, and recorded nothing of it",
    "recovery.told": "it has recorded what became of one command, and not of the next",
}
"""Points in the keeper, and what is so when it comes there."""

SERVER_POINTS = {
    "writer.begun": "a transaction is begun",
    "writer.written": "its changes are made, and not committed",
    "writer.committed": "they are committed, and nobody who waits for them knows",
    "dispatch.picked": "commands that waited were read, and are not marked",
    "dispatch.marked": "a command is marked for the keeper, and not sent",
    "dispatch.sent": "it is sent",
    "recorder.read": "a part of the journal was read",
    "recorder.stored": "it is stored with its position, and the keeper does not know",
    "recorder.acknowledged": "the keeper was told, and those who follow were not",
}
"""Points in the server, and what is so when it comes there."""

POINTS = KEEPER_POINTS | SERVER_POINTS


def reached(point: str) -> None:
    """Let happen what a test wants at this point.

    Args:
        point: its name, one of `POINTS`.

    Raises:
        OSError: the test wants this error.
    """
    if _directory is not None:
        _act(_directory, point)


def arm(directory: str, point: str, action: str) -> None:
    """Say what is to happen at a point, once; called by tests.

    Args:
        directory: what the service was told in `VARIABLE`.
        point: one of `POINTS`.
        action: ``kill`` or ``stop`` (the process that comes there), ``fail NAME`` (an error by
            its name in `errno`), or ``pass`` (nothing: to see that it was reached). A number
            after it: so many passings before it happens.

    Raises:
        KeyError: there is no such point.
    """
    if point not in POINTS:
        raise KeyError(point)
    path = os.path.join(directory, point)
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(action)
    os.rename(f"{path}.new", path)


def pending(directory: str, point: str) -> bool:
    """Return whether what was said with `arm` has still to happen; called by tests."""
    return os.path.exists(os.path.join(directory, point))


def _act(directory: str, point: str) -> None:
    path = os.path.join(directory, point)
    try:
        with open(path, encoding="ascii") as file:
            action, *rest = file.read().split()
    except FileNotFoundError:
        return
    passings = int(rest.pop()) if rest and rest[-1].isdigit() else 0
    if passings:
        arm(directory, point, " ".join([action, *rest, str(passings - 1)]))
        return
    try:
        os.rename(path, f"{path}.done")
    except FileNotFoundError:
        return  # another process came first
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "fail":
            number = getattr(errno, rest[0])
            raise OSError(number, os.strerror(number))


_directory = os.environ.get(VARIABLE)
