"""The keeper's part of the journal: appends records, repairs its end, waits for disk space."""
