"""The output of commands: ranges of it, following it, and event streams."""
