"""Lists of commands: filters, and scans in slices that each cost little."""
