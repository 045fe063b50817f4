"""Generated messages and stubs of package latentserve.v1; `make proto` writes them."""
