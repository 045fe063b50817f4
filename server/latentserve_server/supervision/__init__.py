"""Several worker processes that answer at one address: what starts, asks, restarts and stops them."""
