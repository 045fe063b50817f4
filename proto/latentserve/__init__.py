"""The latentserve contract: wire protocol (`latentserve.v1`) and tensors as numpy arrays (`latentserve.ndarray`)."""
