"""The output of commands: ranges, tails and live event streams."""
