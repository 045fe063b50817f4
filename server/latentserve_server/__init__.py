"""The latentserve server: a gRPC service over model bundles, run in onnxruntime. Start it with `latentserve-server`."""
