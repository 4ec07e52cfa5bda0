"""The specification of a script's process, and the interface of the methods to start a process.

``spawner`` makes a `NewProcess`. The methods are ``cloning``, ``launcher`` and ``forking``.
"""

from dataclasses import dataclass
from typing import Protocol

from scriptservice.keeper.spawn.script_user import ScriptUser

SCRIPT_DESCRIPTOR = 63
"""The interpreter reads the script from this descriptor, so a script's ``$0`` is /dev/fd/63."""


@dataclass(frozen=True, slots=True)
class NewProcess:
    """The specification of a process that is about to be started.

    Attributes:
        argv: program and arguments; a program without a slash is looked up in ``PATH``.
        environment: the complete environment.
        directory: an ``O_PATH`` descriptor of the working directory.
        script: the descriptor of the script's text; the process gets it as `SCRIPT_DESCRIPTOR`.
        streams: the descriptors that the process gets as 0, 1 and 2.
        user: the user of the process.
        cgroup: a descriptor of the ``cgroup.procs`` file of the cgroup that the process enters,
            None for the keeper's own cgroup.
        descriptor_limits: soft and hard limit of descriptors, None for the keeper's own limits.
    """

    argv: list[bytes]
    environment: dict[bytes, bytes]
    directory: int
    script: int
    streams: tuple[int, int, int]
    user: ScriptUser
    cgroup: int | None = None
    descriptor_limits: tuple[int, int] | None = None


class SpawnMethod(Protocol):
    """A method to start a process.

    Attributes:
        name: the method's name as ``/readyz`` shows it: ``clone``, ``launcher`` or ``fork``.
    """

    name: str

    def start(self, process: NewProcess) -> tuple[int, int | None]:
        """Start a process.

        Returns:
            The process id, and the read end of the process's status pipe (see ``exec_failure``). A
            method that waits for the exec returns None instead of the read end: the exec has
            already succeeded.

        Raises:
            OSError: the exec failed (the exception's filename is the program), the directory could
                not be entered (the exception has another filename), or there is no room for a
                process (the exception has no filename).
            subprocess.SubprocessError: another property of the process could not be changed.
            ValueError: an argument or a variable contains a zero byte.
        """

    def release(self, status: int) -> None:
        """Free the memory that a process needed until its exec.

        The spawner calls this method after the process's exec or end.

        Args:
            status: the number of the status descriptor that `start` returned.
        """
