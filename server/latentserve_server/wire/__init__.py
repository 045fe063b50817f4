"""Calls as gRPC brings them: listeners, limits, status codes, streams."""
