"""The plumbing that every command shares."""
