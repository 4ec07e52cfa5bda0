"""A command in the keeper: it waits in the queue, starts, prints output and ends."""
