"""The plan of a foreign decoder: pixel range, uint8 images and likelihood outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve.pixel_range import ROUNDING
from latentserve_training.errors import ExportError
from latentserve_training.export.plan import Arrays
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.fixed_input import fixed_inputs
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.label import LabelInput, labels_in_turn
from latentserve_training.foreign.latents import Latents
from latentserve_training.foreign.likelihood import LikelihoodTensor, likelihood_tensor, sigmoid
from latentserve_training.foreign.noise_input import NoiseInput, noise_inputs
from latentserve_training.foreign.pixels import output_pixels
from latentserve_training.foreign.plan import ForeignImagePlan
from latentserve_training.foreign.psi_input import PSI, PsiInput, psi_rows
from latentserve_training.foreign.psi_trial import take_psi_by_row
from latentserve_training.foreign.runner import Runner
from latentserve_training.foreign.tensor import main_input
from latentserve_training.number_text import apart

_OUT_OF_RANGE = 1e-3
"""How far a pixel may lie outside the range, as float32 rounding does, in fractions of it; it is clipped."""

_LEVEL = 1.001 / 255

_TRIED_PSIS = 4


@dataclass(frozen=True, kw_only=True)
class ForeignDecoderPlan(ForeignImagePlan):
    """The callers' latents to images."""

    latents: Latents
    likelihood: LikelihoodTensor | None

    @property
    def dtypes(self) -> dict[str, int]:
        """The element types of the latent, the image and what the likelihood has."""
        beside = self.likelihood
        latent = {} if self.latents.codes else {self.runner.source.name: self.runner.dtype}
        own = latent | {self.pixels.tensor: self.pixels.dtype}
        return own | ({beside.tensor: beside.dtype} if beside and beside.tensor else {})

    @property
    def drawn(self) -> Arrays:
        """What the file makes of the example for callers who set nothing: with the default psi."""
        asked = self.description.psi
        if asked is None:
            return self.expected
        return self.compute(self.example | {PSI: np.full_like(self.example[PSI], asked.default)})

    @property
    def limits(self) -> dict[str, float]:
        """As of every foreign graph; an image of bytes may be a level off."""
        return super().limits | ({"image": _LEVEL} if self.pixels.dtype == TensorProto.UINT8 else {})

    def compute(self, inputs: Arrays) -> Arrays:
        """The images scaled to [0, 1], the same as uint8, and the likelihood's output."""
        drawn, beside = self._draw(inputs)
        self._check_range(drawn)
        image = np.clip(drawn, 0, 1).astype(np.float32)
        outputs: Arrays = {"image": image, "image_uint8": np.rint(255 * image).astype(np.uint8)}
        if self.likelihood is not None and beside is not None:
            if self._bernoulli:
                self.likelihood.check(image.astype(np.float64) if self.description.clip else drawn, beside)
            outputs[self.likelihood.output] = beside.astype(np.float32)
        return outputs

    def clipped(self, inputs: Arrays) -> str:
        """How much of the images is clipped, for a person; empty where the description does not let it happen."""
        if not self.description.clip:
            return ""
        drawn, _ = self._draw(inputs)
        self._check_range(drawn)
        beyond = (drawn < -ROUNDING) | (drawn > 1 + ROUNDING)
        low, high = (f"{value:.4g}" for value in (self.pixels.low, self.pixels.high))
        if not beyond.any():
            return f"decoder: no pixel of {len(drawn)} images lies beyond image_range [{low}, {high}]; none was clipped"
        smallest, largest = self.pixels.to_own(np.array([drawn.min(), drawn.max()]))
        return (
            f"decoder: {100 * beyond.mean():.2g} % of the pixel values of {len(drawn)} images lie beyond image_range "
            f"[{low}, {high}] and are clipped; they run from {smallest:.4g} to {largest:.4g}"
        )

    def write(self, path: Path) -> None:
        """Write the graph with a bundle's names, a Clip, uint8 images, and logits or log-scales."""
        adapter = self.adapter()
        source = self.runner.source
        adapter.before.rename(self.latents.feed(adapter.before, source), adapter.own(source.name))
        nodes, pixels, beside, shape = adapter.after, self.pixels, self.likelihood, self.pixels.shape
        image = adapter.own(pixels.tensor)
        if self._draws_logits:
            assert beside is not None, "a Bernoulli decoder has logits"
            logits = adapter.give(beside.add(nodes, image, image, pixels), "logits", shape)
            raw = nodes.add("Sigmoid", logits)
        else:
            raw = pixels.take(nodes, image, pixels.to_own.inverse, pixels.dtype, pixels.known)
        adapter.give(nodes.add("Clip", raw, np.float32(0), np.float32(1)), "image", shape)
        levels = nodes.add("Round", nodes.add("Mul", "image", np.float32(255)))
        adapter.give(nodes.add("Cast", levels, to=TensorProto.UINT8), "image_uint8", shape, TensorProto.UINT8)
        if beside is not None and not self._draws_logits:
            own = adapter.own(beside.tensor) if beside.tensor else ""
            adapter.give(beside.add(nodes, own, "image", pixels), beside.output, shape)
        adapter.write(path, self.outputs)

    def _draw(self, inputs: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """The images before they are clipped, in [0, 1] where they are in range, and the likelihood's output."""
        rows = inputs[self.latents.name]
        found, count = self.runner.run(self.latents.own(rows), inputs), len(rows)
        beside = None if self.likelihood is None else self.likelihood.values(found, self.pixels, count)
        if self._draws_logits and beside is not None:
            return sigmoid(beside), beside
        return self.pixels.images(found[self.pixels.tensor], count, f"decoder: {self.pixels.tensor!r}"), beside

    @property
    def _bernoulli(self) -> bool:
        return self.description.likelihood == "bernoulli"

    @property
    def _draws_logits(self) -> bool:
        """Whether the tensor of the image holds its logits."""
        return self._bernoulli and self.likelihood is not None and self.likelihood.tensor == self.pixels.tensor

    def _check_range(self, drawn: NDArray[np.float64]) -> None:
        """Raise ExportError for pixels beyond the range where they are not to be clipped."""
        smallest, largest = float(drawn.min()), float(drawn.max())
        if smallest >= -_OUT_OF_RANGE and largest <= 1 + _OUT_OF_RANGE:
            return
        if self.description.clip:
            return
        found = self.pixels.to_own(np.array([smallest, largest]))
        bounds = (self.pixels.low, self.pixels.high)
        (least, low), (most, high) = (apart(float(one), other) for one, other in zip(found, bounds, strict=True))
        raise ExportError(
            f"decoder: pixels of {self.pixels.tensor!r} run from {least} to {most}, beyond image_range "
            f"[{low}, {high}]; `clip: true` takes the nearest allowed ones in their place"
        )


def plan_decoder(
    description: ForeignModel, folder: Path, rows: NDArray[Any], random: np.random.Generator
) -> ForeignDecoderPlan:
    """The plan of the described decoder, whose file lies in `folder`, checked with rows of the callers' latents.

    Its noise is drawn from `random`.

    Raises:
        ExportError: the graph does not fit the description.
    """
    names, asked = description.decoder, description.psi
    graph = ForeignGraph.load("decoder", folder / names.file)
    image = graph.output(names.image)
    beside = likelihood_tensor(description, graph, image)
    tensors = list(dict.fromkeys(filter(None, [image, beside])))
    graph = graph.part(tensors)
    latents = Latents.of(description)
    taken = [*(["noise"] if description.prior_graph else []), *([PSI] if asked else [])]
    beside_latent = [*names.beside, *([asked.input] if asked else [])]
    latent = main_input(graph, names.latent, "decoder.latent", beside_latent, latents.allowed)
    latents.check(graph, latent.name)
    runner = Runner(
        role="decoder",
        session=graph.reference(tensors),
        source=latent,
        label=LabelInput.of(graph, names.label, names.label_embeddings, folder, description.label_count),
        fixed=fixed_inputs(graph, names.inputs),
        noises=noise_inputs(graph, names.noise, taken),
        psi=PsiInput.of(graph, asked) if asked else None,
    )
    example = _example(description, {latents.name: rows}, runner.noises, random)
    few = {name: array[:_TRIED_PSIS] for name, array in example.items()}
    graph, runner = take_psi_by_row(graph, runner, latents.own(few[latents.name]), few, tensors)
    pixels = output_pixels(description, graph, image, lambda: _drawn_shape(latents, runner, example, image))
    likelihood = LikelihoodTensor.of(description, graph, pixels, beside)
    return ForeignDecoderPlan(
        role="decoder",
        example=example,
        outputs=("image", "image_uint8", *([likelihood.output] if likelihood else [])),
        description=description,
        graph=graph,
        runner=runner,
        pixels=pixels,
        latents=latents,
        likelihood=likelihood,
    )


def _drawn_shape(latents: Latents, runner: Runner, example: Arrays, image: str) -> tuple[int, ...]:
    """The shape of a row of images as a run gives them, for files that do not say it."""
    one = {name: array[:1] for name, array in example.items()}
    return runner.run(latents.own(one[latents.name]), one)[image].shape[1:]


def _example(
    description: ForeignModel, latents: Arrays, noises: Sequence[NoiseInput], random: np.random.Generator
) -> Arrays:
    """The latents, for a conditional model labels, noise drawn from N(0, I), and psis of the described range."""
    example, (rows,) = {**latents}, map(len, latents.values())
    if description.label_count:
        example["label"] = labels_in_turn(description.label_count, rows)
    for noise in noises:
        example[noise.tensor] = random.standard_normal((rows, *noise.shape), dtype=np.float32)
    if description.psi is not None:
        example[PSI] = psi_rows(description.psi, rows)
    return example
