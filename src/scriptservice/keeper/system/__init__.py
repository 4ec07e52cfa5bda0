"""The kernel and the machine as the keeper uses them: event loop, calls, signals, systemd."""
