"""The soak test: a mixed load with random faults for a given time, and a verdict."""
