"""The channel to a server, and the calls made over it."""
