"""Carries out the Dockerfile without a container engine, and runs what the compose file runs."""
