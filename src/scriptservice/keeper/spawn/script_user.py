"""As whom scripts run, decided once at the keeper's start."""

import os
import pwd
from dataclasses import dataclass

SERVICE_USER = "scriptservice"


class UserError(Exception):
    """Scripts cannot run as the user that was asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class ScriptUser:
    """The user of all scripts of this keeper.

    Attributes:
        uid: user id.
        gid: group id.
        groups: supplementary groups.
        name: for ``USER`` and ``LOGNAME``; the number where there is no passwd entry.
        home: its home directory, None where there is none.
        changes: whether the keeper must change its user to run a script.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str | None
    changes: bool


def _known(entry: pwd.struct_passwd) -> ScriptUser:
    return ScriptUser(
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)),
        name=entry.pw_name,
        home=entry.pw_dir if os.path.isdir(entry.pw_dir) else None,
        changes=entry.pw_uid != os.geteuid(),
    )


def _numbered(uid: int) -> ScriptUser:
    try:
        return _known(pwd.getpwuid(uid))
    except KeyError:
        return ScriptUser(uid, uid, (), str(uid), None, changes=uid != os.geteuid())


def script_user(run_as: str | None, script_uid: int) -> ScriptUser:
    """Return as whom scripts run.

    Args:
        run_as: a name or a number; None for the default: the service's own user, or, when that
            is root, the user ``scriptservice``, or ``script_uid`` where there is none.
        script_uid: the numeric default; it needs no passwd entry.

    Raises:
        UserError: there is no such user, or it is another one and the service is not root.
    """
    own = os.geteuid()
    if run_as is not None:
        try:
            user = _numbered(int(run_as)) if run_as.isdecimal() else _known(pwd.getpwnam(run_as))
        except KeyError as error:
            message = f"cannot run scripts as {run_as}: there is no such user"
            raise UserError(message) from error
        if user.changes and own != 0:
            message = f"cannot run scripts as {run_as}: only root can run them as another user"
            raise UserError(message)
        return user
    if own != 0:
        return _numbered(own)
    try:
        return _known(pwd.getpwnam(SERVICE_USER))
    except KeyError:
        return _numbered(script_uid)
