"""Reads the output of commands: a range, the output as it grows, or an event stream."""
