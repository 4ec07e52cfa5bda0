"""A command in the keeper: waiting to start, starting, running, ended; and its output."""
