"""The latentserve contract: messages, limits, and what every package reads alike."""
