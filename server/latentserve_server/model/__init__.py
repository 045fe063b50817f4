"""One loaded model version."""
