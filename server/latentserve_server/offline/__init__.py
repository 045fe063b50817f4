"""Versions of a repository opened and run without a server: no event loop, no batcher, no gRPC."""
