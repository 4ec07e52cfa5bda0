"""The server (or worker) that runs as the keeper's child."""
