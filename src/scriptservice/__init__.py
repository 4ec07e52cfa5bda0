"""ScriptService: runs bash scripts sent over HTTP and keeps every byte they print.

The way of a command through the folders: ``server`` takes it, ``store`` makes it durable,
``fleet`` dispatches it, ``keeper`` runs it and writes what happened to its journal, ``fleet``
records that journal into the ``store``, and ``server`` shows it to those who follow.
"""

__version__ = "0.1.0"
