"""Who may ask: tokens, sessions of the page, signing in, the origin check."""
