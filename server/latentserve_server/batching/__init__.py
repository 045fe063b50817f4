"""Rows of many calls in one run of a graph."""
