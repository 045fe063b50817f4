"""Requests and the meaning of their replies: pure functions, without any I/O."""
