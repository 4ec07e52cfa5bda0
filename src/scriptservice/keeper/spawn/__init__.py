"""Starts a script's process: its specification, the three methods, its files and its user."""
