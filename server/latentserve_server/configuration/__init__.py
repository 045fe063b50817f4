"""The server's options, and the sources of their values."""
