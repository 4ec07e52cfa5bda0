"""Starts scripts: the process's specification, the script's files and user, the three methods."""
