"""The keeper's access to the kernel and the machine: event loop, /proc, signals, systemd."""
