"""The specification of a script's process, and the interface of the methods that start one.

``spawner`` makes a `NewProcess`; ``cloning``, ``launcher`` and ``forking`` are the methods.
"""

from dataclasses import dataclass
from typing import Protocol

from scriptservice.keeper.spawn.script_user import ScriptUser

SCRIPT_DESCRIPTOR = 63
"""Every script reads itself from this descriptor; its ``$0`` is /dev/fd/63."""


@dataclass(frozen=True, slots=True)
class NewProcess:
    """A process to be started.

    Attributes:
        argv: program and arguments; a program without a slash is looked up in ``PATH``.
        environment: the complete environment.
        directory: an ``O_PATH`` descriptor of the working directory.
        script: the descriptor that becomes `SCRIPT_DESCRIPTOR`.
        streams: the descriptors that become 0, 1 and 2.
        user: the user of the process.
        cgroup: an open ``cgroup.procs``, None for the keeper's own cgroup.
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
        name: as ``/readyz`` shows it: ``clone``, ``launcher`` or ``fork``.
    """

    name: str

    def start(self, process: NewProcess) -> tuple[int, int | None]:
        """Start a process.

        Returns:
            The process id, and the descriptor from which the result of its exec can be read (see
            ``exec_failure``); None instead of that if the exec has already succeeded.

        Raises:
            OSError: exec failed (the filename is the program), the directory cannot be entered
                (the filename is another one), or there is no room for a process.
            subprocess.SubprocessError: another property of the process could not be changed.
            ValueError: an argument or a variable contains a zero byte.
        """

    def release(self, status: int) -> None:
        """Free what a process needed until its exec, or until its end without one.

        Args:
            status: the descriptor that `start` returned, read to its end.
        """
