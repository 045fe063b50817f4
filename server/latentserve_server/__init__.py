"""A gRPC server for bundles of VAEs and GANs; `latentserve-server` starts it."""
