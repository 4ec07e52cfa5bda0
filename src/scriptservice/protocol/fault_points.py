"""Named points at which a test can kill, stop or fail a process of the service.

There is a point before and after every step that leaves something half done if the process dies.
The points act only in a process whose environment has the variable `VARIABLE`. The value of the
variable is the path of a directory that the test has made. To set an action, the test makes a file
in that directory. The file's name is the point, and its content is the action. The first process
that reaches the point renames the file, so that the action happens only once, and not again in the
next process.

The variable is not part of the settings: this module reads the environment itself. So tests also
reach the processes of an upgrade, and code that runs before the configuration is read.
"""

import errno
import os
import signal

VARIABLE = "SCRIPTSERVICE_FAULT_POINTS"

KEEPER_POINTS = {
    "journal.append": "an event, or output of a terminal, is about to be written",
    "journal.appended": "the record is in the file; no code has acted on it",
    "journal.splice": "output waits in its pipe",
    "journal.headed": "the output's header is in the file; the output is still in its pipe",
    "journal.spliced": "the output is in the file; its header may state too many bytes",
    "journal.rotate": "a new segment is about to begin",
    "journal.rotated": "the new segment has begun, with a snapshot of the open commands",
    "journal.drop": "a segment that is stored in the database is about to be deleted",
    "journal.dropped": "the segment is deleted",
    "spawn.starting": "STARTING is in the journal; nothing else was done",
    "spawn.process": "everything that the script's process needs is ready; the process is not made",
    "spawn.spawned": "the process is made; it may not have executed the script yet",
    "spawn.begun": "the process is the script; STARTED is not in the journal",
    "spawn.started": "STARTED is in the journal; the output is not watched yet",
    "end.reaped": "the script's process is reaped; EXITED is not in the journal",
    "end.exited": "EXITED is in the journal",
    "end.drained": "the process tree is gone and the output complete; CLOSED is not in the journal",
    "end.closed": "CLOSED is in the journal",
    "stop.asked": "a script is about to be stopped; STOPPING is not in the journal",
    "stop.recorded": "STOPPING is in the journal; no signal was sent",
    "stop.signalled": "the signal was sent",
    "stop.killing": "the grace period is over; SIGKILL was not sent",
    "acknowledged.told": "the child has reported how far the journal is stored",
    "acknowledged.noted": "that position is written for the keeper's next start",
    "recovery.read": "a new keeper has read the journal of a dead one",
    "recovery.killed": "survivors are killed; the journal does not say so",
    "recovery.told": "the end of one command is in the journal, that of the next is not",
}
"""The keeper's points. The text of each describes the state when the keeper reaches the point."""

SERVER_POINTS = {
    "writer.begun": "a transaction has begun",
    "writer.written": "its changes are made; they are not committed",
    "writer.committed": "the changes are committed; no waiting task has been told",
    "dispatch.picked": "waiting commands were read; they are not marked",
    "dispatch.marked": "a command is marked for the keeper; it is not sent",
    "dispatch.sent": "the command is sent",
    "recorder.read": "a part of the journal was read",
    "recorder.stored": "that part is stored with its position; the keeper has not been told",
    "recorder.acknowledged": "the keeper has been told; the followers have not",
}
"""The server's points. The text of each describes the state when the server reaches the point."""

POINTS = KEEPER_POINTS | SERVER_POINTS


def reached(point: str) -> None:
    """Perform the action that a test has set for a point, if there is one.

    Args:
        point: one of `POINTS`.

    Raises:
        OSError: the action is ``fail``.
    """
    if _directory is not None:
        _act(_directory, point)


def arm(directory: str, point: str, action: str) -> None:
    """Set the action that a point performs once; called by tests.

    Args:
        directory: the value of `VARIABLE` in the service's environment.
        point: one of `POINTS`.
        action: what happens to the process that reaches the point. ``kill`` sends SIGKILL to the
            process, ``stop`` sends SIGSTOP, and ``fail NAME`` raises an `OSError` with the errno of
            that name. ``pass`` does nothing, but `pending` then shows that the point was reached. A
            number N at the end of the action means that the point is passed N times before the
            action is performed.

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
    """Return whether the action that `arm` has set still waits to be performed; called by tests."""
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
        return  # another process was faster
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "fail":
            number = getattr(errno, rest[0])
            raise OSError(number, os.strerror(number))


_directory = os.environ.get(VARIABLE)
