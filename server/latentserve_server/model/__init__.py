"""One loaded version: what its calls mean, and what it says of itself."""
