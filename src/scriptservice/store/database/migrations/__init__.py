"""The chain of migrations, and the code that applies them. Both kinds of database use the chain."""

import os

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", os.path.dirname(__file__))
    config.set_main_option("path_separator", "os")
    return config


def known_revisions() -> set[str]:
    """Return all revisions that this release knows."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def upgrade(connection: Connection) -> None:
    """Migrate a database to the newest revision, in the connection's open transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
