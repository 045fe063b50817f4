"""What operators see: metrics, the log, open files."""
