"""The server's settings, and where their values come from."""
