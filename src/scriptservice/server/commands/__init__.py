"""Operations on commands, between the routes and the store."""
