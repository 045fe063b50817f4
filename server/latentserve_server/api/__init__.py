"""What callers may ask: the services, and how their messages are read and written."""
