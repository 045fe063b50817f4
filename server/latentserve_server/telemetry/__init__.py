"""Metrics, logs and open files."""
