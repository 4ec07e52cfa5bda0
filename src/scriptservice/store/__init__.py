"""The store: the database, which is the authority on commands, their output and who may ask.

``tables`` says what is kept, ``engine`` opens a database, ``writer`` is the one thread that
changes it, ``reader`` the small pool that reads. ``commands``, ``output``, ``recording``, ``hosts``
and ``tokens`` are the statements, the same for every database, as plain functions of a connection.
"""
