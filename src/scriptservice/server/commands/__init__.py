"""What can be done with commands, between the routes and the store."""
