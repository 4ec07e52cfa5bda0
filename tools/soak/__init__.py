"""The soak: a mixed load with random faults for as long as one likes, and a verdict."""
