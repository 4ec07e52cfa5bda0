"""The store: the database, which is the authority on commands, output, tokens and sessions.

``database`` opens a database and keeps its schema up to date. ``writer`` is the one thread that
changes it; ``reader`` has the threads that read it. ``queries`` has the statements, the same for
every database, as plain functions of a connection.
"""
