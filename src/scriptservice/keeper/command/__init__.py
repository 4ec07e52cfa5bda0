"""One script's life in the keeper: from the request until all its processes have ended."""
