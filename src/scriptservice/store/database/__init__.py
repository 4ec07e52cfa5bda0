"""The database itself: engines, schema, migrations and backup, for SQLite and PostgreSQL."""
