"""How the server starts: its configuration, its database, and the change from one to the next."""
