"""Builds the Dockerfile without a container engine, and runs the services of the compose file."""
