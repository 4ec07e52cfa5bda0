"""``scripts/test-newcomer``: runs the tests on bare Debians, as root and as an ordinary user."""
