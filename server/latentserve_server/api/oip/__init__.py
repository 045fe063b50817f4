"""The Open Inference Protocol, for clients that know no latents."""
