"""The life of a command in the keeper (it waits, starts, runs and ends), and its output."""
