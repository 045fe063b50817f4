"""The plumbing of every command: options, refusals, output, version, exit code."""
