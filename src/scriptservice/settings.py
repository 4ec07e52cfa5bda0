"""The service's settings, read once from flags, environment and a TOML file into one object.

The descriptions of the fields name the units, and become the texts of ``--help`` and of
``docs/reference/settings.md``. The names of flags and environment variables come from the names of
the fields. Flags win over the environment, the environment wins over the file.
"""

import os
import socket
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from scriptservice.errors import ConfigurationError
from scriptservice.model import DEFAULT_OUTPUT_LIMIT_BYTES, MAX_SCRIPT_BYTES
from scriptservice.paths import default_data_dir

_HOST_NAME = r"^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?)$"
ENVIRONMENT_PREFIX = "SCRIPTSERVICE_"


class Settings(BaseSettings):
    """The settings of ``scriptservice serve``. They never change."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    # With an empty host, for example from an unset shell variable, the service would listen on
    # every address.
    host: Annotated[str, Field(min_length=1)] = Field(
        "127.0.0.1", description="address to listen on"
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="port to listen on; 0 for any free port"
    )
    allowed_host: Annotated[tuple[Annotated[str, Field(pattern=_HOST_NAME)], ...], NoDecode] = (
        Field(
            (),
            description="host name under which clients may reach the service, besides localhost, "
            "IP addresses and --host; may be repeated (in the environment: comma-separated); "
            "* allows any name",
        )
    )
    sign_in_link: bool = Field(
        default=True,
        description="at each start, print a link that signs in to the web page; it works once, "
        "for 10 minutes",
    )
    data_dir: Annotated[str, Field(min_length=1)] = Field(
        default_factory=lambda: default_data_dir(os.environ, os.geteuid()),
        description="directory for all data of the service",
    )
    database: str | None = Field(
        None,
        description="database URL: sqlite:///PATH or postgresql://USER@HOST/NAME; by default "
        "a SQLite file in the data directory",
    )
    migrate: bool = Field(
        default=False,
        description="at the start, migrate a PostgreSQL database to the schema of this release; "
        "a SQLite database is always migrated",
    )
    start_queued: bool = Field(
        default=False,
        description="start commands that were queued in a database restored from a backup; by "
        "default they become lost, because they may have run already",
    )
    host_name: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        default_factory=socket.gethostname,
        description="name of this machine, shown as the host of its commands",
    )
    run_as: str | None = Field(
        None,
        description="user (name or number) that runs scripts; root must be given explicitly. "
        "By default the service's own user; if that is root, the user scriptservice, or "
        "--script-uid if that user does not exist",
    )
    script_uid: Annotated[int, Field(ge=1, le=2**31)] = Field(
        59999, description="user id that runs scripts if the service is root; needs no account"
    )
    max_running: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="number of commands that may run at the same time; by default as many as the "
        "limit of file descriptors allows",
    )
    max_interactive: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="number of interactive commands that may be unfinished at the same time",
    )
    max_timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="largest time-out of a command, in seconds; a command that is submitted "
        "without a time-out gets this one",
    )
    max_grace_seconds: Annotated[float, Field(ge=0, le=3600)] | None = Field(
        None,
        description="largest grace period of a command and of a stop, in seconds; a larger "
        "default is lowered to it",
    )
    max_output_limit_bytes: Annotated[int, Field(ge=0, lt=1 << 63)] | None = Field(
        None,
        description="largest output limit of a command, in bytes; a larger --output-limit-bytes "
        "is lowered to it, and null is refused",
    )
    max_script_bytes: Annotated[int, Field(ge=1, le=MAX_SCRIPT_BYTES)] | None = Field(
        None, description="largest script, in bytes of UTF-8; never more than 1048576"
    )
    max_connections: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="number of client connections at the same time; by default 10000, or as many "
        "as the limit of file descriptors allows",
    )
    shutdown_grace_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        30, description="seconds that running scripts get to end when the service shuts down"
    )
    no_new_privileges: bool = Field(
        default=True,
        description="keep scripts from gaining privileges through set-uid programs such as sudo",
    )
    use_cgroups: bool = Field(
        default=True, description="run each script in a cgroup of its own if cgroup2 is writable"
    )
    use_launcher: bool = Field(
        default=True,
        description="start scripts with the launcher program (built from launcher/) instead of "
        "fork",
    )
    output_limit_bytes: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        DEFAULT_OUTPUT_LIMIT_BYTES,
        description="bytes of output to keep of each command that is submitted without "
        "output_limit_bytes; a command that is submitted with null has no limit",
    )
    min_free_bytes: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="bytes of disk space to keep free; with less, the service refuses new "
        "commands; by default 5 % of the file system of the data directory, at least 256 MiB and "
        "at most 10 GiB. Below 64 MiB of free space, or below this setting if it is smaller, "
        "scripts that write output wait",
    )
    keep_days: Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)] | None = Field(
        None,
        description="days that finished commands are kept after their end; older ones are deleted "
        "with their output; by default commands are kept until a user deletes them",
    )
    keep_commands: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="number of finished commands that are kept; beyond it the oldest are deleted",
    )
    keep_output_bytes: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="bytes of output of finished commands that are kept, as they are stored; "
        "beyond them the oldest commands are deleted",
    )
    spool_limit_bytes: Annotated[int, Field(ge=1 << 20)] = Field(
        8 << 30,
        description="bytes of output that may wait to be stored; beyond this, scripts that write "
        "output wait",
    )
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = Field(
        "info", description="lowest level to log to stderr: debug, info, warning or error"
    )
    log_format: Annotated[str, Field(pattern="^(console|json)$")] = Field(
        "console", description="format of the log: console (for people) or json (for programs)"
    )

    @field_validator("allowed_host", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())

    @property
    def database_url(self) -> str:
        """The database's URL: the setting or its default."""
        return self.database or f"sqlite:///{os.path.join(self.data_dir, 'scriptservice.db')}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let flags win over the environment, and the environment over the file."""
        file = os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if file:
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=file),)
        return sources


def load_settings(flags: Mapping[str, Any]) -> Settings:
    """Return the settings from flags, environment and TOML file.

    Args:
        flags: values from the command line, by field name; None means that the flag was not
            given. ``config`` is the path of a TOML file.

    Raises:
        ConfigurationError: a value is invalid (the message names the setting), or the file cannot
            be read.
    """
    values = {name: value for name, value in flags.items() if value is not None}
    file = values.pop("config", None) or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    if file:
        os.environ[f"{ENVIRONMENT_PREFIX}CONFIG"] = file
        if not os.path.isfile(file):
            message = f"cannot read settings from {file}: there is no such file"
            raise ConfigurationError(message)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = f"cannot use setting {name}: {first['msg']}"
        raise ConfigurationError(message) from error
    except (OSError, ValueError) as error:
        message = f"cannot read settings: {error}"
        raise ConfigurationError(message) from error
    return settings.model_copy(update={"data_dir": os.path.abspath(settings.data_dir)})
