"""The command line: each verb is a function of a module here; ``main`` is the entry point."""
