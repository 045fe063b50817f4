"""A model of Triton's Python backend: one ONNX graph, run by onnxruntime on all rows that Triton has gathered.

Triton imports this file as `model.py`, in an environment of its own. The configuration's parameters name the file
(`graph`); inputs and outputs are those of the configuration.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph on one thread."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graph = config["parameters"]["graph"]["string_value"]
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.input: str = config["input"][0]["name"]
        self.outputs: list[str] = [output["name"] for output in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests at once and give each its own rows."""
        parts = [triton.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
        if rows.dtype == np.uint8:
            rows = rows.astype(np.float32) / np.float32(255)
        computed = self.session.run(self.outputs, {self.input: rows})
        responses, first = [], 0
        for part in parts:
            last = first + len(part)
            own = zip(self.outputs, computed, strict=True)
            tensors = [triton.Tensor(name, array[first:last]) for name, array in own]
            responses.append(triton.InferenceResponse(output_tensors=tensors))
            first = last
        return responses
