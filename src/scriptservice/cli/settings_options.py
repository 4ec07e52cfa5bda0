"""Makes the flags of a verb from `Settings`, which declares each setting of the service once.

The verbs that work on this machine's data directory or on a database use this module.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from scriptservice.cli.exit_codes import fail
from scriptservice.errors import ConfigurationError, StoreError
from scriptservice.settings import ENVIRONMENT_PREFIX, Settings, load_settings

Function = Callable[..., None]

_METAVARS = {
    "allowed_host": "NAME",
    "bytes": "BYTES",
    "connections": "NUMBER",
    "data_dir": "DIR",
    "database": "URL",
    "host": "ADDRESS",
    "host_name": "NAME",
    "interactive": "NUMBER",
    "log_format": "FORMAT",
    "log_level": "LEVEL",
    "port": "PORT",
    "run_as": "USER",
    "running": "NUMBER",
    "seconds": "SECONDS",
    "uid": "UID",
}
"""The words that stand for values in the help text, by the end of a setting's name."""


def takes_settings(*names: str) -> Callable[[Function], Function]:
    """Return a decorator that gives a verb a flag for each named setting.

    The decorated function's first parameter receives the settings. Its other parameters are
    declared with Typer as usual. If the function raises a `ConfigurationError` or a `StoreError`,
    the program prints one line and exits with code 1.

    Args:
        names: names of fields of `Settings`; ``config`` adds the flag for the settings file.
    """

    def decorate(function: Function) -> Function:
        own = list(inspect.signature(function).parameters.values())[1:]
        parameters = [*own, *(_parameter(name) for name in names)]

        @wraps(function)
        def verb(**values: Any) -> None:
            flags = {name: values.pop(name) for name in names}
            given = {name: flag for name, flag in flags.items() if flag not in (None, [])}
            try:
                function(load_settings(given), **values)
            except (ConfigurationError, StoreError) as error:
                raise fail(str(error)) from error

        signature = inspect.Signature(
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        )
        verb.__signature__ = signature  # type: ignore[attr-defined]
        verb.__annotations__ = {each.name: each.annotation for each in parameters}
        return verb

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    """Return a setting's flag as a parameter for Typer; its value is None if the flag is absent."""
    if name == "config":
        option = typer.Option(
            "--config",
            metavar="FILE",
            help=f"TOML file with settings [{ENVIRONMENT_PREFIX}CONFIG]",
        )
        return _optional(name, str, option)
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = default if isinstance(default, str) else str(None if default == () else default).lower()
    text = f"{field.description} [{ENVIRONMENT_PREFIX}{name.upper()}; default {shown}]"
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is bool:
        return _optional(name, bool, typer.Option(f"{flag}/--no-{flag[2:]}", help=text))
    if name == "allowed_host":
        return _optional(name, list[str], typer.Option(flag, help=text, metavar=_metavar(name)))
    return _optional(name, str, typer.Option(flag, help=text, metavar=_metavar(name)))


def _metavar(name: str) -> str:
    """Return the word that stands for a setting's value in the help text."""
    for ending, metavar in _METAVARS.items():
        if name == ending or name.endswith(f"_{ending}"):
            return metavar
    return "TEXT"


def _optional(name: str, kind: Any, option: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
