"""What a call costs: this server beside others that run the same graphs, on one core, in one run."""
