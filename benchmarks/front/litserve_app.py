"""LitServe over one decoder: JSON with base64 in, the bytes of uint8 images out, with its batching.

python -m front.litserve_app PORT GRAPH INPUT DIM MAX_BATCH     runs in an environment of its own
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Response
from numpy.typing import NDArray

BATCH_SECONDS = 0.01
"""As in most of LitServe's examples."""


class Decoder(litserve.LitAPI):  # type: ignore[misc]  # LitServe is in another environment
    """Images of latents."""

    def __init__(self, graph: str, entry: str, dim: int, max_batch: int) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=BATCH_SECONDS if max_batch > 1 else 0.0)
        self.graph, self.entry, self.dim = graph, entry, dim

    def setup(self, device: str) -> None:
        """Open the graph on one thread."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, str]) -> NDArray[np.float32]:
        """Latents [n, dim]."""
        return np.frombuffer(base64.b64decode(request["latents"]), np.float32).reshape(-1, self.dim)

    def batch(self, inputs: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], list[int]]:
        """All rows, and where each request's begin but for the first."""
        return np.concatenate(inputs), [int(end) for end in np.cumsum([len(rows) for rows in inputs])[:-1]]

    def predict(self, x: Any) -> Any:
        """Run the graph on a batch, or on one request's rows where there is no batching."""
        rows, ends = x if isinstance(x, tuple) else (x, None)
        images = self.session.run(["image_uint8"], {self.entry: rows})[0]
        return images if ends is None else (images, ends)

    def unbatch(self, output: tuple[NDArray[np.uint8], list[int]]) -> list[NDArray[np.uint8]]:
        """Each request's own rows."""
        images, ends = output
        return np.split(images, ends)

    def encode_response(self, output: NDArray[np.uint8]) -> Response:
        """The pixels."""
        return Response(content=output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    port, graph, entry, dim, max_batch = sys.argv[1:]
    api = Decoder(graph, entry, int(dim), int(max_batch))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False, access_log=False)
