"""``scriptservice serve``: reads the settings, then executes the keeper in the same process."""

import os
import sys
from dataclasses import asdict

from scriptservice.cli.extras import require_driver
from scriptservice.cli.service_environment import (
    ServiceEnvironment,
    read_environment,
    without_service_variables,
)
from scriptservice.cli.settings_options import takes_settings
from scriptservice.keeper.config import RESERVE_BYTES, KeeperConfig
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.settings import Settings


@takes_settings("config", *Settings.model_fields)
def serve(settings: Settings) -> None:
    """Run the service.

    Flags override environment variables, and environment variables override the TOML file.
    """
    require_driver(settings.database_url)
    environment = read_environment(os.environ, os.getpid())
    config = keeper_config(settings, environment)
    descriptor = config.to_descriptor()
    # Execute the keeper in this process. The exec removes the modules that parsed the settings from
    # memory, so the keeper stays small.
    program = sys.executable
    words = [program, "-I", "-m", "scriptservice.keeper", "--config-fd", str(descriptor)]
    os.execve(program, words, without_service_variables(os.environ))  # noqa: S606 - no shell


def keeper_config(settings: Settings, environment: ServiceEnvironment) -> KeeperConfig:
    """Return the keeper's configuration, which contains the server's configuration.

    Args:
        settings: the service's settings.
        environment: what the service manager and the user set for this process.
    """
    server = ServerConfig(
        data_dir=settings.data_dir,
        database=settings.database_url,
        migrate=settings.migrate,
        start_queued=settings.start_queued,
        host_name=settings.host_name,
        max_running=settings.max_running,
        output_limit_bytes=settings.output_limit_bytes,
        max_timeout_seconds=settings.max_timeout_seconds,
        max_grace_seconds=settings.max_grace_seconds,
        max_output_limit_bytes=settings.max_output_limit_bytes,
        max_script_bytes=settings.max_script_bytes,
        max_interactive=settings.max_interactive,
        min_free_bytes=settings.min_free_bytes,
        keep_days=settings.keep_days,
        keep_commands=settings.keep_commands,
        keep_output_bytes=settings.keep_output_bytes,
        hosts=[settings.host, *settings.allowed_host],
        max_connections=settings.max_connections,
        sign_in_link=settings.sign_in_link,
        log_level=settings.log_level,
        log_format=settings.log_format,
        first_token=environment.first_token,
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
        reserve_bytes=_reserve_bytes(settings.min_free_bytes),
        log_level=settings.log_level,
        log_format=settings.log_format,
        host_name=settings.host_name,
        notify_socket=environment.notify_socket,
        watchdog_seconds=environment.watchdog_seconds,
    )


def _reserve_bytes(min_free_bytes: int | None) -> int:
    """Return the free disk space below which scripts that write output wait.

    Args:
        min_free_bytes: the setting; None if it has its default. While more space than this is free,
            the service starts new commands, so their output must not wait. Therefore the result is
            never greater than this value.
    """
    return RESERVE_BYTES if min_free_bytes is None else min(RESERVE_BYTES, min_free_bytes)
