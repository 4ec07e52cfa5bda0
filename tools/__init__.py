"""Programs for development: checks, image check, soak, captures, screenshots. None is a test."""
