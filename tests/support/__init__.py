"""Code that the test suites share: a real service on loopback, and scripts to run in it."""
