"""The channel to a server, and what is known of it."""
