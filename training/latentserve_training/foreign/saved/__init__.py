"""Models as other libraries save them, exported by those libraries themselves."""
