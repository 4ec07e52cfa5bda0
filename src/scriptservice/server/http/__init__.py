"""HTTP below and beside the routes: connections, limits, layers, errors as answers."""
