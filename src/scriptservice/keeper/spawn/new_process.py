"""What a script's process is made of, whichever way it is started.

``spawn`` makes it; ``cloning``, ``launcher`` and ``forking`` are the ways. It knows none of them.
"""

from dataclasses import dataclass
from typing import Protocol

from scriptservice.keeper.spawn.script_user import ScriptUser

SCRIPT_DESCRIPTOR = 63
"""The script's own number in every script; ``$0`` is /dev/fd/63."""


@dataclass(frozen=True, slots=True)
class NewProcess:
    """A process that is to be.

    Attributes:
        words: program and arguments; a program without a slash is looked for in ``PATH``.
        environment: all of it.
        directory: an ``O_PATH`` descriptor of the working directory.
        script: descriptor that becomes `SCRIPT_DESCRIPTOR`.
        streams: descriptors that become 0, 1 and 2.
        user: as whom.
        cgroup: an open ``cgroup.procs``, None for the keeper's own cgroup.
        files: soft and hard limit of descriptors, None for the keeper's own.
    """

    words: list[bytes]
    environment: dict[bytes, bytes]
    directory: int
    script: int
    streams: tuple[int, int, int]
    user: ScriptUser
    cgroup: int | None = None
    files: tuple[int, int] | None = None


class SpawnMethod(Protocol):
    """A way to start a process.

    Attributes:
        name: as ``/readyz`` shows it.
    """

    name: str

    def start(self, process: NewProcess) -> tuple[int, int | None]:
        """Start a process.

        Returns:
            Its id, and a descriptor to be read for how its exec went (see ``stages``), None if it
            went well.

        Raises:
            OSError: exec failed (the filename is the program) or the directory cannot be entered
                (the filename is another), or there is no process or memory.
            subprocess.SubprocessError: something else that had to change could not be changed.
            ValueError: a word or a variable cannot be handed to a process.
        """

    def settled(self, status: int) -> None:
        """Let go of what a process needed until its exec, or until its end without one.

        Args:
            status: the descriptor that `start` returned, read to its end.
        """
