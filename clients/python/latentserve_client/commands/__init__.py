"""What the `latentserve` commands do: each takes a client and its arguments and gives an Outcome."""
