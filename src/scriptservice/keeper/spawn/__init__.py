"""Starts a script's process: its specification, the two methods, its files and its user."""
