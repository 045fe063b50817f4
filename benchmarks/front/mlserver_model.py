"""MLServer over one decoder, by its own codec and with its adaptive batching; it imports this in its environment."""

from __future__ import annotations

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Decoder(MLModel):  # type: ignore[misc]  # MLServer is in another environment
    """Images of latents. The settings' extra parameters name the graph and its input."""

    async def load(self) -> bool:
        """Open the graph on one thread."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        extra = self.settings.parameters.extra
        self.entry = extra["input"]
        self.session = onnxruntime.InferenceSession(extra["graph"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run the graph on a batch."""
        latents = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        images = self.session.run(["image_uint8"], {self.entry: latents})[0]
        output = NumpyCodec.encode_output("image_uint8", images)
        return InferenceResponse(model_name=self.name, outputs=[output])
