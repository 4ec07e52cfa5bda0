"""The keeper's side of the journal: appending to it, mending it, waiting for room."""
