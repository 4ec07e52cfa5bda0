"""The text messages of attached clients: a new size of the terminal, or a signal."""

import json
from typing import Any

from scriptservice.errors import FieldError, ValidationError
from scriptservice.model import MAX_TERMINAL_CELLS, parse_signal
from scriptservice.server.http.problem_responses import ProblemError


def control_of(text: str) -> str | tuple[int, int]:
    """Return what a text message asks for: the name of a signal, or rows and columns.

    Raises:
        ProblemError: the text is not a JSON object with one of these members.
        ValidationError: the member has a value that is not accepted.
    """
    try:
        members = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProblemError("bad-request", "cannot read the text as JSON") from error
    if isinstance(members, dict) and len(members) == 1:
        ((name, value),) = members.items()
        if name == "resize":
            return _size(value)
        if name == "signal":
            full = parse_signal(value) if isinstance(value, str) else None
            if full is None:
                message = "must be the name of a signal, such as SIGINT or INT"
                raise ValidationError(FieldError("signal", message))
            return full
    expected = '{"resize": {"rows": 24, "cols": 80}} or {"signal": "SIGINT"}'
    raise ProblemError("bad-request", f"cannot understand the text: send {expected}")


def _size(value: Any) -> tuple[int, int]:
    sizes = value if isinstance(value, dict) else {}
    if sizes.keys() != {"rows", "cols"}:
        raise ValidationError(FieldError("resize", "must have rows and cols"))
    for name, number in sizes.items():
        if type(number) is not int or not 1 <= number <= MAX_TERMINAL_CELLS:
            message = f"must be an integer from 1 to {MAX_TERMINAL_CELLS}"
            raise ValidationError(FieldError(f"resize.{name}", message))
    return sizes["rows"], sizes["cols"]
