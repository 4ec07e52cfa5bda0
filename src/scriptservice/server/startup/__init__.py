"""How a server starts: its configuration, its database, and how it replaces another server."""
