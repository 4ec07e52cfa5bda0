"""Retention: how much is stored of finished commands, and the marking of those that are pruned."""
