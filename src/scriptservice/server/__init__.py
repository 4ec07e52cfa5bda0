"""The server: HTTP on the inherited socket, and the composition of store and fleet.

``__main__`` is what the keeper starts; ``app`` brings the parts together. A request goes through
``auth``, a module of ``routes`` (decode, validate, act, respond), and ``commands``, which acts on
store and fleet; ``problems`` turns errors into answers.
"""
