"""SQL statements, as functions that take a connection; a module for each kind of thing."""
