"""Programs that are neither the service nor its tests: soak, image check, captures, screenshots."""
