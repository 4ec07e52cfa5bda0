"""The server (or worker), which runs as the keeper's child."""
