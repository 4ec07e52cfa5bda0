"""Finds out which processes belong to a script, and kills all of them."""
