"""From inherited descriptors to a server that serves, and to its end in order."""
