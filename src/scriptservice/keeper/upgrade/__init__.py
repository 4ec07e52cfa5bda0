"""The upgrade in place: the keeper hands its state to the next program of the same process."""
