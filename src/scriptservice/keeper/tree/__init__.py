"""Which processes belong to a script, and how all of them are killed."""
