"""What stands between a configuration and a keeper: whatever can go wrong goes wrong here first.

In the order in which that does no harm: the standard descriptors, the data directory and its lock,
the user of the scripts, the address, the directories that scripts get.
"""

import fcntl
import os
import socket
from contextlib import suppress
from dataclasses import dataclass

from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.spawn.script_user import ScriptUser, UserError, script_user
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.system.listener import ListenError, listen
from scriptservice.keeper.upgrade_state import KeeperState


class StartError(Exception):
    """The keeper cannot start; the message is for a person and says why."""


@dataclass(frozen=True, slots=True)
class KeeperResources:
    """What a keeper stands on.

    Attributes:
        lock: descriptor of the data directory's lock, held for as long as it is open.
        listener: the listening socket, None for a worker.
        spawner: starts scripts as their user.
    """

    lock: int
    listener: socket.socket | None
    spawner: Spawner


def acquire_resources(config: KeeperConfig) -> KeeperResources:
    """Take the data directory and the address.

    Raises:
        StartError: one of them cannot be had; nothing was changed that matters.
    """
    lock = _lock_directory(config.data_dir)
    listener: socket.socket | None = None
    try:
        user = script_user(config.run_as, config.script_uid)
        _refuse_scripts_owner(config.data_dir, user)
        if config.listen_host is not None:
            listener = listen(config.listen_host, config.listen_port)
        spawner = Spawner(
            config.data_dir,
            user,
            path=config.path,
            lang=config.lang,
            use_launcher=config.use_launcher,
        )
        _make_journal(config.data_dir)
    except (UserError, ListenError) as error:
        raise StartError(str(error)) from error
    except OSError as error:
        where = error.filename or config.data_dir
        message = f"cannot use {where} in the data directory: {error.strerror}"
        raise StartError(message) from error
    if not user.changes:
        logger.warning(
            "scripts_share_the_user",
            user=user.name,
            detail="they can read its database and tokens and signal it (docs/security.md)",
        )
    return KeeperResources(lock, listener, spawner)


def restore_resources(config: KeeperConfig, state: KeeperState) -> KeeperResources:
    """Stand where the keeper's program before this one stood.

    Args:
        config: what it was told.
        state: what it handed over.
    """
    user = state.spawner.user
    return KeeperResources(
        state.lock,
        None if state.listener is None else socket.socket(fileno=state.listener),
        Spawner(
            config.data_dir,
            ScriptUser(user.uid, user.gid, tuple(user.groups), user.name, user.home, user.changes),
            path=config.path,
            lang=config.lang,
            use_launcher=config.use_launcher,
            state=state.spawner,
        ),
    )


def _refuse_scripts_owner(data_dir: str, user: ScriptUser) -> None:
    """Refuse a data directory that the user of the scripts could read or rename in.

    Raises:
        StartError: it is that user's: an earlier start was as that user.
    """
    if not user.changes:
        return
    for name in ("", "token", "scriptservice.db", "journal"):
        path = os.path.join(data_dir, name)
        with suppress(FileNotFoundError):
            if os.stat(path).st_uid == user.uid:
                message = (
                    f"cannot use data directory {data_dir}: {name or 'it'} belongs to "
                    f"{user.name}, as whom scripts run; give it to the service's user (chown)"
                )
                raise StartError(message)


def _make_journal(data_dir: str) -> None:
    directory = os.path.join(data_dir, "journal")
    if not os.path.isdir(directory):
        os.mkdir(directory, 0o700)


def _lock_directory(path: str) -> int:
    """Make the data directory and lock it; return the lock's descriptor.

    Raises:
        StartError: it cannot be made or written, or another keeper has it.
    """
    try:
        os.makedirs(path, mode=0o711, exist_ok=True)
        os.chmod(path, 0o711)  # noqa: S103 - scripts pass through to their directory
        lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"cannot use data directory {path}: {error.strerror}"
        raise StartError(message) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
        message = f"cannot use data directory {path}: process {owner} serves it already"
        raise StartError(message) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def open_standard_descriptors() -> None:
    """Let nothing else get the numbers of closed standard streams, to which our child prints."""
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)
