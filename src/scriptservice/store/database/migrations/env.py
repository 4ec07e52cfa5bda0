"""Alembic's entry point: runs the migrations on the connection that ``upgrade`` gives it."""

from alembic import context

from scriptservice.store.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
