"""Lists of commands: filters, and scans that work in bounded slices of time."""
