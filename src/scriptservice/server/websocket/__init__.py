"""WebSockets: the connection, and the clients that are attached to commands."""
