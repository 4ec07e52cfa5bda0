"""The keeper's side of the journal: append records, repair its end, wait for room on the disk."""
