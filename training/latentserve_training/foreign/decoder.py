"""The plan of a foreign decoder: pixel range, uint8 images and likelihood outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve_training.errors import ExportError
from latentserve_training.export.plan import Arrays
from latentserve_training.foreign.adapter import Adapter
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.label import LabelInput
from latentserve_training.foreign.plan import ForeignPlan, Shape, require_size
from latentserve_training.number_text import apart

_OUT_OF_RANGE = 1e-3
"""How far a pixel may lie outside the range, as float32 rounding does, in fractions of it; it is clipped."""
_SIGMOID_LIMIT = 1e-4


@dataclass(frozen=True, kw_only=True)
class ForeignDecoderPlan(ForeignPlan):
    """Latents to images."""

    image: str
    beside: str | None
    """The foreign tensor of the logits or log-scales, where there is one."""

    def compute(self, inputs: Arrays) -> Arrays:
        """The images scaled to [0, 1], the same as uint8, and the likelihood's output."""
        latents = inputs["latent"].astype(np.float32)
        found = self.run(latents, inputs.get("label"))
        low, high = self.description.range_
        logits = found[self.beside].astype(np.float64) if self.beside and self._bernoulli else None
        if logits is not None and self.beside == self.image:
            drawn = 1 / (1 + np.exp(-logits))
        else:
            drawn = (found[self.image].astype(np.float64) - low) / (high - low)
        self._check_range(drawn)
        image = np.clip(drawn, 0, 1).astype(np.float32).reshape(-1, *self.shape)
        outputs: Arrays = {"image": image, "image_uint8": np.rint(255 * image).astype(np.uint8)}
        if logits is not None:
            self._check_logits(drawn.ravel(), logits.ravel())
            outputs["logits"] = logits.astype(np.float32).reshape(image.shape)
        elif "log_scale" in self.outputs:
            own = found[self.beside] if self.beside else np.full(image.shape, self.description.log_scale)
            outputs["log_scale"] = (own - math.log(high - low)).astype(np.float32).reshape(image.shape)
        return outputs

    def write(self, path: Path) -> None:
        """Write the graph with a bundle's names, a Clip, uint8 images, and logits or log-scales."""
        low, high = self.description.range_
        adapter = self.adapter("latent", (self.description.latent_dim,))
        if self._bernoulli and self.beside == self.image:
            raw = adapter.add("Sigmoid", [adapter.take(self.image, self.shape, "logits")], "image_unclipped")
        else:
            raw = adapter.take(self.image, self.shape, "image_unclipped", 1 / (high - low), -low / (high - low))
            if self._bernoulli and self.beside:
                adapter.take(self.beside, self.shape, "logits")
        bounds = [adapter.constant(f"bounds/{value}", np.array(value, np.float32)) for value in (0, 1)]
        adapter.add("Clip", [raw, *bounds], "image")
        levels = adapter.add("Mul", ["image", adapter.constant("levels", np.array(255, np.float32))], "image_levels")
        adapter.add("Cast", [adapter.add("Round", [levels], "image_rounded")], "image_uint8", to=TensorProto.UINT8)
        if "log_scale" in self.outputs:
            self._dress_log_scale(adapter, -math.log(high - low))
        for name in self.outputs:
            adapter.give(name, self.shape, TensorProto.UINT8 if name == "image_uint8" else TensorProto.FLOAT)
        adapter.write(path)

    def _dress_log_scale(self, adapter: Adapter, shift: float) -> None:
        if self.beside:
            adapter.take(self.beside, self.shape, "log_scale", offset=shift)
            return
        assert self.description.log_scale is not None, "the description has a number or a tensor"
        number = adapter.constant("log_scale/number", np.array(self.description.log_scale + shift, np.float32))
        adapter.add("Expand", [number, adapter.add("Shape", ["image"], "image_shape")], "log_scale")

    @property
    def _bernoulli(self) -> bool:
        return self.description.likelihood == "bernoulli"

    def _check_range(self, image: NDArray[np.float64]) -> None:
        low, high = self.description.range_
        if not (image.min() >= -_OUT_OF_RANGE and image.max() <= 1 + _OUT_OF_RANGE):
            found = (low + value * (high - low) for value in (image.min(), image.max()))
            (smallest, least), (largest, most) = (apart(*pair) for pair in zip(found, (low, high), strict=True))
            raise ExportError(
                f"decoder: pixels of {self.image!r} run from {smallest} to {largest}, "
                f"beyond image_range [{least}, {most}]"
            )

    def _check_logits(self, image: NDArray[np.float64], logits: NDArray[np.float64]) -> None:
        difference = float(np.abs(1 / (1 + np.exp(-logits)) - image).max())
        if not difference <= _SIGMOID_LIMIT:
            raise ExportError(
                f"decoder: the image is not the sigmoid of {self.beside!r}, from which it differs by {difference:.2e}; "
                "name the tensor of the logits in decoder.logits"
            )


def plan_decoder(description: ForeignModel, folder: Path, rows: int, seed: int) -> ForeignDecoderPlan:
    """The plan of the described decoder, whose file lies in `folder`, checked with latents drawn with `seed`.

    Raises:
        ExportError: the graph does not fit the description.
    """
    names = description.decoder
    graph = ForeignGraph.load("decoder", folder / names.file)
    bernoulli = description.likelihood == "bernoulli"
    image = graph.output(names.image)
    named = names.logits or (graph.logits_of(image) if bernoulli else names.log_scale)
    if bernoulli and named is None:
        raise ExportError(f"decoder: no Sigmoid node gives {image!r}; name the tensor of the logits in decoder.logits")
    beside = graph.tensor(named) if named else None
    tensors = [image, *([beside] if beside else [])]
    graph = graph.part(tensors)
    latent = graph.main_input(names.latent, names.label)
    require_size(graph, latent.name, description.latent_dim, "latent_dim")
    own = {"bernoulli": ("logits",), None: ()}.get(description.likelihood, ("log_scale",))
    example: Arrays = {
        "latent": np.random.default_rng(seed).standard_normal((rows, description.latent_dim), dtype=np.float32)
    }
    if description.label_count:
        example["label"] = _labels_in_turn(description.label_count, rows)
    return ForeignDecoderPlan(
        role="decoder",
        example=example,
        outputs=("image", "image_uint8", *own),
        description=description,
        graph=graph,
        reference=graph.reference(tensors),
        source=latent,
        label=LabelInput.of(graph, names.label, description.label_count),
        shape=_image_shape(description, graph, image),
        image=image,
        beside=beside,
    )


def _labels_in_turn(count: int, rows: int) -> NDArray[np.int64]:
    """0, 1, ... repeated; if there are more labels than rows, evenly spaced ones with the first and the last."""
    return np.arange(rows) % count if count <= rows else np.linspace(0, count - 1, rows).astype(np.int64)


def _image_shape(description: ForeignModel, graph: ForeignGraph, image: str) -> Shape:
    found = graph.shape(image)
    asked = tuple(description.image_shape) if description.image_shape else None
    shape = asked or found
    if shape is None or len(shape) != 3:
        raise ExportError(f"decoder: {image!r} does not say channels, height and width; set image_shape")
    if found not in (None, shape) and (len(found) == 3 or math.prod(found) != math.prod(shape)):
        raise ExportError(
            f"decoder: {image!r} is [batch, {', '.join(map(str, found))}], which is not image_shape {[*shape]}"
        )
    if shape[0] not in (1, 3):
        raise ExportError(f"decoder: {image!r} has {shape[0]} channels first; it must be 1 or 3")
    return shape
