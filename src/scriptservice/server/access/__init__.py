"""Access control: tokens, sessions of the web page, sign-in, and the Host and Origin check."""
