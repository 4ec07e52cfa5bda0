"""Which waiting commands may start: priorities, concurrency keys, and what a command waits for."""
