"""Acquires the resources that a keeper needs before it can run.

Most failures of a start happen here. The order of the steps ensures that a failure does no harm:
the standard descriptors, the data directory and its lock, the user of the scripts, the address, the
directories for scripts.
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
    """The keeper cannot start; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class KeeperResources:
    """The resources that a keeper holds from its start to its end.

    Attributes:
        lock: descriptor of the data directory's lock file; the keeper has the lock until this
            descriptor is closed.
        listener: the listening socket, None for a worker.
        spawner: starts scripts.
    """

    lock: int
    listener: socket.socket | None
    spawner: Spawner


def acquire_resources(config: KeeperConfig) -> KeeperResources:
    """Lock the data directory, bind the address, and make a spawner.

    Raises:
        StartError: one of these steps failed. Only files and directories that were missing may have
            been made.
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
    """Return the resources that the keeper's previous program handed over.

    Args:
        config: the keeper's configuration.
        state: the state that the previous program handed over.
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
    """Refuse a data directory if the user of scripts could read or rename files in it.

    The directory belongs to the user of scripts if the service was once started as that user.

    Raises:
        StartError: the directory, or something in it, belongs to that user.
    """
    if not user.changes:
        return
    for name in ("", "token", "scriptservice.db", "journal"):
        path = os.path.join(data_dir, name)
        with suppress(FileNotFoundError):
            if os.stat(path).st_uid == user.uid:
                message = (
                    f"cannot use data directory {data_dir}: {name or 'it'} belongs to "
                    f"{user.name}, the user of scripts; give it to the service's user (chown)"
                )
                raise StartError(message)


def _make_journal(data_dir: str) -> None:
    directory = os.path.join(data_dir, "journal")
    if not os.path.isdir(directory):
        os.mkdir(directory, 0o700)


def _lock_directory(path: str) -> int:
    """Create the data directory if it is missing, and lock it; return the lock's descriptor.

    Raises:
        StartError: the directory cannot be created or written, or another keeper has the lock.
    """
    try:
        os.makedirs(path, mode=0o711, exist_ok=True)
        os.chmod(path, 0o711)  # noqa: S103 - scripts pass through it to their directories
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
    """Open /dev/null for each standard stream that is closed.

    Otherwise another file could get the number 0, 1 or 2. The child uses these descriptors as its
    standard streams.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)
