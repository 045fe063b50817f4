"""Tests, parity and throughput on a GPU, in one command of a few minutes."""
