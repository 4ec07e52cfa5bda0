"""``scripts/test-newcomer``: the tests on bare Debian machines, as root and as an ordinary user."""
