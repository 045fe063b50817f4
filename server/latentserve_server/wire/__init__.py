"""gRPC: listeners, limits of calls, interceptors and status codes."""
