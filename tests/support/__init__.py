"""What the suites share: a real service on loopback, and small programs to run in it."""
