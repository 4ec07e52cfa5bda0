"""The service's maxima: what no command may exceed, whoever submits it.

They are settings. Without them, nothing changes. All checks are here: `CommandService` applies them
to each submission, reruns included, and to each stop.
"""

from dataclasses import dataclass, replace

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import Submission


@dataclass(frozen=True, slots=True)
class SubmitDefaults:
    """The values of fields that a request leaves out, where they depend on settings.

    Attributes:
        grace_seconds: see `Submission`.
        output_limit_bytes: see `Submission`.
    """

    grace_seconds: float = 10
    output_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Maxima:
    """The largest values that a command may have; None for no maximum.

    Attributes:
        timeout_seconds: time-out. A command without a time-out gets this one.
        grace_seconds: grace period, also of a single stop.
        output_limit_bytes: limit of the output.
        script_bytes: size of the script in UTF-8.
        interactive: number of interactive commands that are not finished.
    """

    timeout_seconds: float | None = None
    grace_seconds: float | None = None
    output_limit_bytes: int | None = None
    script_bytes: int | None = None
    interactive: int | None = None

    def lower(self, defaults: SubmitDefaults) -> SubmitDefaults:
        """Return the defaults, each lowered to its maximum."""
        grace, output = defaults.grace_seconds, defaults.output_limit_bytes
        if self.grace_seconds is not None:
            grace = min(grace, self.grace_seconds)
        if self.output_limit_bytes is not None:
            most = self.output_limit_bytes
            output = most if output is None else min(output, most)
        return SubmitDefaults(grace, output)

    def apply(self, submission: Submission) -> Submission:
        """Return a submission as it may be stored: with a time-out, if that has a maximum.

        Raises:
            ValidationError: fields exceed their maxima.
        """
        if submission.timeout_seconds is None and self.timeout_seconds is not None:
            submission = replace(submission, timeout_seconds=self.timeout_seconds)
        errors = [
            *_above("timeout_seconds", submission.timeout_seconds, self.timeout_seconds),
            *_above("grace_seconds", submission.grace_seconds, self.grace_seconds),
            *self._output_errors(submission.output_limit_bytes),
            *self._script_errors(submission.script),
        ]
        if errors:
            raise ValidationError(*errors)
        return submission

    def check_grace(self, grace_seconds: float | None) -> None:
        """Check the grace period of a stop; None is the command's own.

        Raises:
            ValidationError: it exceeds the maximum.
        """
        if errors := _above("grace_seconds", grace_seconds, self.grace_seconds):
            raise ValidationError(*errors)

    def check_interactive(self, unfinished: int) -> None:
        """Check whether one more interactive command may be submitted.

        Args:
            unfinished: number of interactive commands that are not finished.

        Raises:
            ValidationError: there are already as many as the maximum allows.
        """
        if self.interactive is not None and unfinished >= self.interactive:
            message = (
                f"must be false now: {unfinished} interactive commands are not finished, and the "
                f"service's maximum is {self.interactive} (--max-interactive)"
            )
            raise ValidationError(FieldError("interactive", message))

    def _output_errors(self, limit: int | None) -> list[FieldError]:
        if limit is None and self.output_limit_bytes is not None:
            flag = _flag("output_limit_bytes")
            message = (
                f"must not be null: the service's maximum is {self.output_limit_bytes} ({flag})"
            )
            return [FieldError("output_limit_bytes", message)]
        return _above("output_limit_bytes", limit, self.output_limit_bytes)

    def _script_errors(self, script: str) -> list[FieldError]:
        if self.script_bytes is None or len(script.encode()) <= self.script_bytes:
            return []
        message = (
            f"must have at most {self.script_bytes} bytes of UTF-8, the service's maximum "
            f"({_flag('script_bytes')})"
        )
        return [FieldError("script", message)]


def _above(field: str, value: float | None, maximum: float | None) -> list[FieldError]:
    if value is None or maximum is None or value <= maximum:
        return []
    message = f"must be at most {maximum:.15g}, the service's maximum ({_flag(field)})"
    return [FieldError(field, message)]


def _flag(field: str) -> str:
    return f"--max-{field.replace('_', '-')}"
