"""A model of Triton's Python backend: graphs run by onnxruntime on all rows that Triton has gathered.

Triton imports this file as `model.py`, in an environment of its own. The configuration's parameters say what is to be
computed (`task`) and name the files of the graphs: `decoder` decodes latents, `encoder` encodes images, `reconstruct`
does both, and `score` adds a Bernoulli decoder's nats at the posterior mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]


class Graph:
    """One ONNX file on one thread, run as this server runs it."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, rows: Array, *outputs: str) -> list[Array]:
        """The outputs, in their order."""
        return list(self._session.run(list(outputs), {self._input: rows}))


class TritonPythonModel:
    """What the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graphs that the task needs."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self.compute = TASKS[parameters["task"]]
        self.graphs = {role: Graph(parameters[role]) for role in ("encoder", "decoder") if role in parameters}
        self.input: str = config["input"][0]["name"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests at once and give each its own rows."""
        parts = [triton.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
        computed = self.compute(self.graphs, rows)
        responses, first = [], 0
        for part in parts:
            last = first + len(part)
            tensors = [triton.Tensor(name, array[first:last]) for name, array in computed.items()]
            responses.append(triton.InferenceResponse(output_tensors=tensors))
            first = last
        return responses


def decode(graphs: Mapping[str, Graph], latents: Array) -> Arrays:
    """Images of latents."""
    return {"image_uint8": graphs["decoder"](latents, "image_uint8")[0]}


def encode(graphs: Mapping[str, Graph], pixels: Array) -> Arrays:
    """The posterior of images."""
    mean, log_variance = graphs["encoder"](as_float(pixels), "mean", "log_variance")
    return {"mean": mean, "log_variance": log_variance}


def reconstruct(graphs: Mapping[str, Graph], pixels: Array) -> Arrays:
    """Images decoded at the posterior mean of others."""
    return decode(graphs, graphs["encoder"](as_float(pixels), "mean")[0])


def score(graphs: Mapping[str, Graph], pixels: Array) -> Arrays:
    """The nats of images at their posterior mean, [n, 1]."""
    images = as_float(pixels)
    mean, log_variance = graphs["encoder"](images, "mean", "log_variance")
    (logits,) = graphs["decoder"](mean, "logits")
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
    error = sum_rows(softplus - images * logits)
    divergence = (np.square(mean) + np.exp(log_variance) - log_variance - 1) * np.float32(0.5)
    kl = sum_rows(divergence)
    return {"reconstruction_error": error, "kl": kl, "elbo": -(error + kl)}


def as_float(pixels: Array) -> NDArray[np.float32]:
    """Pixels of bytes as what encoders take."""
    return pixels.astype(np.float32) / np.float32(255)


def sum_rows(terms: Array) -> NDArray[np.float32]:
    """The sum of each row, taken in float64: float32 [n, 1]."""
    sums: NDArray[np.float64] = terms.reshape(len(terms), -1).sum(1, dtype=np.float64, keepdims=True)
    return sums.astype(np.float32)


TASKS: Mapping[str, Callable[[Mapping[str, Graph], Array], Arrays]] = {
    "decoder": decode,
    "encoder": encode,
    "reconstruct": reconstruct,
    "score": score,
}
