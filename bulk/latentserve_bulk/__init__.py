"""Very large jobs for the models of latentserve, on Ray Data."""
