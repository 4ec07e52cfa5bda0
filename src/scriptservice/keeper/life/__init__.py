"""The life of a command: what is kept of it, and the state machine that says what comes next."""
