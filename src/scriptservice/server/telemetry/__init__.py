"""What an operator sees of the service: metrics and the log."""
