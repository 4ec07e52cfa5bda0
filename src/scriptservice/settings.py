"""What the service is told, from flags, environment and a TOML file, parsed once.

Each field's description gives its unit; ``--help``, the environment names and ``docs/settings.md``
come from here. Flags win over the environment, the environment over the file.
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
from scriptservice.paths import default_data_dir

_HOST_NAME = r"^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?)$"
ENVIRONMENT_PREFIX = "SCRIPTSERVICE_"


class Settings(BaseSettings):
    """The settings of ``scriptservice serve``; frozen."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    # An empty one, as from a shell variable that is not set, would mean every address.
    host: Annotated[str, Field(min_length=1)] = Field(
        "127.0.0.1", description="address to listen on"
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="port to listen on; 0 takes a free one"
    )
    allowed_host: Annotated[tuple[Annotated[str, Field(pattern=_HOST_NAME)], ...], NoDecode] = (
        Field(
            (),
            description="name by which the service may be called besides localhost, IP addresses "
            "and --host; repeats (in the environment: comma-separated); * for any name",
        )
    )
    sign_in_link: bool = Field(
        default=True,
        description="whether each start prints a link that signs in to the page once, within "
        "10 minutes",
    )
    data_dir: Annotated[str, Field(min_length=1)] = Field(
        default_factory=lambda: default_data_dir(os.environ, os.geteuid()),
        description="directory for everything that is kept",
    )
    database: str | None = Field(
        None,
        description="database URL: sqlite:///PATH or postgresql://USER@HOST/NAME; by default "
        "SQLite in a file in the data directory",
    )
    migrate: bool = Field(
        default=False,
        description="whether a PostgreSQL database is brought to this release's schema at the "
        "start; SQLite always is",
    )
    start_queued: bool = Field(
        default=False,
        description="whether commands that were waiting in a database that was put back from a "
        "backup start; by default they are lost, since they may have run",
    )
    host_name: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        default_factory=socket.gethostname, description="this machine's name among hosts"
    )
    run_as: str | None = Field(
        None,
        description="user (name or number) for scripts; root needs to be said explicitly. "
        "By default the service's own user, or, when that is root, the user scriptservice, "
        "or --script-uid where there is none",
    )
    script_uid: Annotated[int, Field(ge=1, le=2**31)] = Field(
        59999, description="numeric user for scripts when the service is root; needs no account"
    )
    max_running: Annotated[int, Field(ge=0)] | None = Field(
        None, description="commands that may run at once; by default as many as descriptors allow"
    )
    max_connections: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="connections of clients at once; by default 10000, or as many as descriptors "
        "allow",
    )
    shutdown_grace_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        30, description="seconds that scripts get at most to end at a shutdown"
    )
    no_new_privileges: bool = Field(
        default=True, description="whether set-uid programs such as sudo are powerless in scripts"
    )
    use_cgroups: bool = Field(
        default=True, description="whether each script gets a cgroup where cgroup2 is writable"
    )
    use_launcher: bool = Field(
        default=True,
        description="whether scripts are started by what is built from launcher/; else by fork",
    )
    min_free_bytes: Annotated[int, Field(ge=0)] = Field(
        8 << 20,
        description="bytes of disk kept free: below, submits are refused and output waits",
    )
    spool_limit_bytes: Annotated[int, Field(ge=1 << 20)] = Field(
        8 << 30,
        description="bytes of output that may wait to be stored; beyond, scripts that print wait",
    )
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = Field(
        "info", description="what is logged to stderr: debug, info, warning or error"
    )
    log_format: Annotated[str, Field(pattern="^(console|json)$")] = Field(
        "console", description="how it is logged: console (lines for people) or json (for programs)"
    )

    @field_validator("allowed_host", mode="before")
    @classmethod
    def _comma_separated(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return tuple(name.strip() for name in given.split(",") if name.strip())

    @property
    def database_url(self) -> str:
        """The database's URL, also where none is given."""
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
        """Let flags win over the environment and that over the file."""
        file = os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if file:
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=file),)
        return sources


def load_settings(flags: Mapping[str, Any]) -> Settings:
    """Return the settings.

    Args:
        flags: what the command line says, by field; ``config`` names a TOML file.

    Raises:
        ConfigurationError: a value is no good; the message names the setting.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    file = given.pop("config", None) or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    if file:
        os.environ[f"{ENVIRONMENT_PREFIX}CONFIG"] = file
        if not os.path.isfile(file):
            message = f"cannot read settings from {file}: there is no such file"
            raise ConfigurationError(message)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = f"cannot use setting {name}: {first['msg']}"
        raise ConfigurationError(message) from error
    except (OSError, ValueError) as error:
        message = f"cannot read settings: {error}"
        raise ConfigurationError(message) from error
    return settings.model_copy(update={"data_dir": os.path.abspath(settings.data_dir)})
