"""The user that scripts run as; the keeper chooses it once, at its start."""

import os
import pwd
from dataclasses import dataclass

SERVICE_USER = "scriptservice"


class UserError(Exception):
    """Scripts cannot run as the requested user; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class ScriptUser:
    """The user of all scripts of this keeper.

    Attributes:
        uid: the user id.
        gid: the group id.
        groups: the ids of the supplementary groups.
        name: the value of ``USER`` and ``LOGNAME``; the uid if the user has no passwd entry.
        home: the home directory, None if the user has none or the directory does not exist.
        changes: whether scripts run as another user than the keeper.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str | None
    changes: bool


def _from_passwd(entry: pwd.struct_passwd) -> ScriptUser:
    return ScriptUser(
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)),
        name=entry.pw_name,
        home=entry.pw_dir if os.path.isdir(entry.pw_dir) else None,
        changes=entry.pw_uid != os.geteuid(),
    )


def _from_uid(uid: int) -> ScriptUser:
    try:
        return _from_passwd(pwd.getpwuid(uid))
    except KeyError:
        return ScriptUser(uid, uid, (), str(uid), None, changes=uid != os.geteuid())


def script_user(run_as: str | None, script_uid: int) -> ScriptUser:
    """Return the user that scripts run as.

    Args:
        run_as: a user name or a uid, None for the default. The default is the service's own user.
            If the service runs as root, the default is the user ``scriptservice``, or
            ``script_uid`` if there is no such user.
        script_uid: the uid to use if the user ``scriptservice`` does not exist; this uid needs no
            passwd entry.

    Raises:
        UserError: the requested user does not exist; or the service does not run as root, and the
            requested user is not the service's own user.
    """
    own = os.geteuid()
    if run_as is not None:
        try:
            user = (
                _from_uid(int(run_as)) if run_as.isdecimal() else _from_passwd(pwd.getpwnam(run_as))
            )
        except KeyError as error:
            message = f"cannot run scripts as {run_as}: there is no such user"
            raise UserError(message) from error
        if user.changes and own != 0:
            message = f"cannot run scripts as {run_as}: only root can run them as another user"
            raise UserError(message)
        return user
    if own != 0:
        return _from_uid(own)
    try:
        return _from_passwd(pwd.getpwnam(SERVICE_USER))
    except KeyError:
        return _from_uid(script_uid)
