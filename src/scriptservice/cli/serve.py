"""``scriptservice serve``: reads the settings, then becomes the keeper."""

import os
import sys
from dataclasses import asdict
from typing import Any

import click

from scriptservice.cli.service_environment import Given, read_environment, without_given
from scriptservice.errors import ConfigurationError
from scriptservice.keeper.config import KeeperConfig
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.settings import ENVIRONMENT_PREFIX, Settings, load_settings


def serve(words: list[str]) -> int:
    """Become the keeper; return only if that cannot be.

    Args:
        words: the arguments after the verb.
    """
    try:
        flags = _command().main(words, prog_name="scriptservice serve", standalone_mode=False)
        if not isinstance(flags, dict):
            return 0  # help was asked for and shown
        settings = load_settings(flags)
        given = read_environment(os.environ, os.getpid())
    except click.ClickException as error:
        print(f"scriptservice: {error.format_message()}", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(f"scriptservice: {error}", file=sys.stderr)
        return 1
    config = keeper_config(settings, given)
    descriptor = config.to_descriptor()
    # The same process from here on, without what parsing needed: the keeper is small.
    program = sys.executable
    words = [program, "-I", "-m", "scriptservice.keeper", "--config-fd", str(descriptor)]
    return os.execve(program, words, without_given(os.environ))  # noqa: S606 - no shell


def keeper_config(settings: Settings, given: Given) -> KeeperConfig:
    """Return what the keeper is told, with what it hands on to the server."""
    server = ServerConfig(
        data_dir=settings.data_dir,
        database=settings.database_url,
        migrate=settings.migrate,
        start_queued=settings.start_queued,
        host_name=settings.host_name,
        max_running=settings.max_running,
        min_free_bytes=settings.min_free_bytes,
        hosts=[settings.host, *settings.allowed_host],
        max_connections=settings.max_connections,
        sign_in_link=settings.sign_in_link,
        log_level=settings.log_level,
        log_format=settings.log_format,
        first_token=given.token,
    )
    return KeeperConfig(
        data_dir=settings.data_dir,
        listen_host=settings.host,
        listen_port=settings.port,
        child_argv=[sys.executable, "-I", "-m", "scriptservice.server"],
        child_config=asdict(server),
        run_as=settings.run_as,
        script_uid=settings.script_uid,
        no_new_privileges=settings.no_new_privileges,
        use_cgroups=settings.use_cgroups,
        use_launcher=settings.use_launcher,
        shutdown_grace_seconds=settings.shutdown_grace_seconds,
        spool_limit_bytes=settings.spool_limit_bytes,
        reserve_bytes=settings.min_free_bytes,
        log_level=settings.log_level,
        log_format=settings.log_format,
        host_name=settings.host_name,
        notify_socket=given.notify_socket,
        watchdog_seconds=given.watchdog_seconds,
    )


def setting_option(name: str) -> click.Option:
    """Return the flag of a setting, or of the file with settings.

    Args:
        name: of the field of `Settings`, or ``config``.
    """
    if name == "config":
        return click.Option(
            ["--config"],
            metavar="FILE",
            help=f"TOML file with settings [{ENVIRONMENT_PREFIX}CONFIG]",
        )
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = default if isinstance(default, str) else str(None if default == () else default).lower()
    text = f"{field.description} [{ENVIRONMENT_PREFIX}{name.upper()}; default {shown}]"
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", name], help=text, default=None)
    if name == "allowed_host":
        return click.Option([flag, name], help=text, metavar="NAME", multiple=True, callback=_some)
    metavar = "TEXT" if field.annotation is str else "VALUE"
    return click.Option([flag, name], help=text, metavar=metavar)


def _some(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what a flag that repeats says, None where it was not given at all."""
    return given or None


def _command() -> click.Command:
    """Return the parser: a flag for every setting, from the settings themselves."""

    def collect(**flags: Any) -> dict[str, Any]:
        return flags

    return click.Command(
        "serve",
        params=[setting_option(name) for name in ("config", *Settings.model_fields)],
        callback=collect,
        help="Run the service. Flags win over the environment, that over the TOML file.",
    )
