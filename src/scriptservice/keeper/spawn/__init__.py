"""Making a script's process: the request, the ways to start one, the files that it reads."""
