"""HTTP apart from the routes: connections, limits, ASGI layers, errors as answers."""
