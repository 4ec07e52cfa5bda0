"""Development programs that are no tests: checks, image check, soak, captures, screenshots."""
