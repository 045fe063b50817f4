"""The `latentserve` command."""
