"""The HTTP layer below the routes: connections, limits, ASGI layers and error responses."""
