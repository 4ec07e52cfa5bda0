"""The store: the database, which is the authority on commands, output, tokens and sessions.

``database`` opens a database and keeps its schema up to date. ``writer`` is the only thread that
changes the database; ``reader`` has the threads that read the database. ``queries`` has the
statements as plain functions of a connection; they are the same for every kind of database.
"""
