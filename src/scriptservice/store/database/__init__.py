"""The database itself: engines, schema, migrations, backup; what is peculiar to each kind."""
