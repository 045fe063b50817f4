"""Traces of calls: which calls are sampled, and the spans of those."""
