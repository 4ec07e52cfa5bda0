"""Refuses a submission with limits that this host's keeper cannot set."""

from collections.abc import Awaitable, Callable

from scriptservice.errors import FieldError, StoreUnavailableError, ValidationError
from scriptservice.fleet.transport import HostState
from scriptservice.model import Limits

_WHY = {
    "memory_bytes": "the service has no cgroup v2 of its own with the controller memory",
    "processes": "the service has no cgroup v2 of its own with the controller pids",
}
_EARLIER_KEEPER = "the keeper is of an earlier release; submit the command after the upgrade"


class LimitSupport:
    """Knows which limits the keeper can set.

    The keeper is asked when a limit is requested that it has not named before. An upgrade or a
    restart of the keeper may add some.

    Args:
        host_state: returns the keeper's state; raises TimeoutError if the keeper does not answer.
    """

    def __init__(self, host_state: Callable[[], Awaitable[HostState]]) -> None:
        self._host_state = host_state
        self._supported: frozenset[str] = frozenset()

    async def check(self, limits: Limits | None) -> None:
        """Check whether the keeper can set all limits of a submission.

        Raises:
            ValidationError: it cannot set some of them.
            StoreUnavailableError: the keeper does not answer.
        """
        if limits is None:
            return
        wanted = limits.fields().keys()
        if not wanted <= self._supported:
            try:
                self._supported = frozenset((await self._host_state()).limits)
            except TimeoutError as error:
                message = "cannot take a command with limits now: the keeper does not answer"
                raise StoreUnavailableError(message) from error
        if missing := sorted(wanted - self._supported):
            raise ValidationError(*map(self._error, missing))

    def _error(self, name: str) -> FieldError:
        why = _WHY.get(name, _EARLIER_KEEPER) if self._supported else _EARLIER_KEEPER
        return FieldError(f"limits.{name}", f"cannot be set on this host: {why}")
