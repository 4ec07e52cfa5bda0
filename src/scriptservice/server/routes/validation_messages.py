"""The service's own sentences for what pydantic finds wrong with a request.

HTTP clients, the command line and the page all show these sentences, so they have to make sense
without knowledge of Python. Pydantic's own sentences change with its releases.
"""

from collections.abc import Mapping
from typing import Any

_FIELD_MESSAGES = {
    ("script", "string_too_short"): "The script is empty",
    ("script", "missing"): "The script is missing",
    ("id", "string_pattern_mismatch"): "must be 8 to 36 hexadecimal digits or hyphens",
    ("tail", "string_pattern_mismatch"): (
        "must be a number of bytes, such as 1000, or of lines, such as 50l"
    ),
}
"""Messages by field and by pydantic's type of error, where the general message says less."""

_MESSAGES = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object with names and values",
    "enum": "must be {expected}",
    "extra_forbidden": "is not a known field",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le:.15g}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "string_pattern_mismatch": "must match {pattern}",
    "string_sub_type": "must be text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
}
_TEXT_TYPES = {"too_short": "string_too_short", "too_long": "string_too_long"}
"""The type for texts, by the general type of an error about a length. For a text that another
validator has checked before, pydantic reports the general type, and "Value" as the field's type."""


def message_of(field: str, entry: Mapping[str, Any]) -> str:
    """Return what is wrong with one field.

    The message is a sentence of its own, which begins with a capital letter, or it continues the
    name of the field, such as "must be a number".

    Args:
        field: path of the field, such as ``labels.team``.
        entry: one error of a ``pydantic.ValidationError``, with its context.
    """
    kind: str = entry["type"]
    context = entry.get("ctx", {})
    if context.get("field_type") == "Value":
        kind = _TEXT_TYPES[kind]
    if (message := _FIELD_MESSAGES.get((field, kind))) is not None:
        return message
    if context.get("min_length") == 1:
        return "must not be empty"
    if (template := _MESSAGES.get(kind)) is not None:
        return template.format(**context)
    # All other messages come from the validators in ``request_models``.
    return str(entry["msg"]).removeprefix("Value error, ")
