"""The services: requests in, replies out."""
