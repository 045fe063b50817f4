"""The plan of a foreign encoder: images in its own range to posteriors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentserve_training.export.plan import Arrays
from latentserve_training.foreign.affine import Affine
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.fixed_input import fixed_inputs
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.graph_description import ForeignEncoder
from latentserve_training.foreign.label import LabelInput
from latentserve_training.foreign.latents import Latents, LatentTensor
from latentserve_training.foreign.pixels import Pixels, input_pixels
from latentserve_training.foreign.plan import ForeignImagePlan
from latentserve_training.foreign.posterior import PosteriorTensors, posterior_tensors
from latentserve_training.foreign.runner import Runner
from latentserve_training.foreign.tensor import PIXELS, main_input

_OUTPUTS = {"vae": ("mean", "log_variance"), "autoencoder": ("mean",), "vq": ("codes",)}
"""What a bundle's encoder gives, by the kind of model."""


@dataclass(frozen=True, kw_only=True)
class ForeignEncoderPlan(ForeignImagePlan):
    """Images to posteriors of the callers' latents, or to those latents themselves."""

    posterior: PosteriorTensors | LatentTensor

    @property
    def dtypes(self) -> dict[str, int]:
        """The element types of the image, and of what the encoder gives."""
        return {self.pixels.tensor: self.pixels.dtype, **self.posterior.dtypes}

    def compute(self, inputs: Arrays) -> Arrays:
        """The posteriors of images in [0, 1], or their latents."""
        images = inputs["image"]
        found = self.runner.run(self.pixels.values(images), inputs)
        if isinstance(self.posterior, LatentTensor):
            tensor = self.posterior
            (output,) = self.outputs
            return {output: tensor.latents.callers(found[tensor.name], f"encoder: {tensor.name!r}")}
        mean, log_variance = self.posterior.read(found, len(images), self.description.latent_sides)
        return {
            "mean": self.to_callers(mean).astype(np.float32),
            "log_variance": self.widened(log_variance).astype(np.float32),
        }

    def write(self, path: Path) -> None:
        """Write the graph with a bundle's names, and a spread as a log-variance."""
        latent = (self.description.latent_size,)
        adapter = self.adapter()
        source = self.runner.source
        adapter.before.rename(self.pixels.feed(adapter.before, "image", source), adapter.own(source.name))
        nodes, tensors = adapter.after, self.posterior
        if isinstance(tensors, LatentTensor):
            (output,) = self.outputs
            taken = tensors.latents.take(nodes, adapter.own(tensors.name), tensors.dtype)
            adapter.give(taken, output, latent, tensors.latents.dtype)
            adapter.write(path, self.outputs)
            return
        mean, log_variance = tensors.add(nodes, adapter.own(tensors.mean), adapter.own(tensors.scale))
        adapter.give(nodes.reshape(nodes.affine(mean, self.to_callers), latent), "mean", latent)
        adapter.give(nodes.reshape(nodes.affine(log_variance, self.widened), latent), "log_variance", latent)
        adapter.write(path, self.outputs)

    @property
    def to_callers(self) -> Affine:
        """From the graph's own latents to the callers'."""
        return self.description.to_own_latents.inverse

    @property
    def widened(self) -> Affine:
        """From a log-variance of the graph's own latents to one of the callers'."""
        return Affine(offset=2 * math.log(self.description.latent_scale))


def plan_encoder(
    description: ForeignModel, names: ForeignEncoder, folder: Path, decoded: Pixels, example: Arrays
) -> ForeignEncoderPlan:
    """The plan of the described encoder, whose file lies in `folder`, checked with images and labels of `example`.

    `decoded` are the decoder's images.

    Raises:
        ExportError: the graph does not fit the description.
    """
    graph = ForeignGraph.load("encoder", folder / names.file)
    point = names.codes if description.kind == "vq" else names.latent
    tensors = posterior_tensors(graph, names) if description.kind == "vae" else [graph.output(point)]
    graph = graph.part(tensors)
    described = [*filter(None, [names.label]), *(names.inputs or ())]
    image = main_input(graph, names.image, "encoder.image", described, PIXELS)
    posterior: PosteriorTensors | LatentTensor
    if description.kind == "vae":
        posterior = PosteriorTensors.of(graph, names, description)
    else:
        posterior = LatentTensor.of(graph, tensors[0], Latents.of(description))
    return ForeignEncoderPlan(
        role="encoder",
        example=example,
        outputs=_OUTPUTS[description.kind],
        description=description,
        graph=graph,
        runner=Runner(
            role="encoder",
            session=graph.reference(tensors),
            source=image,
            label=LabelInput.of(graph, names.label, names.label_embeddings, folder, description.label_count),
            fixed=fixed_inputs(graph, names.inputs),
        ),
        pixels=input_pixels(description, graph, image, decoded),
        posterior=posterior,
    )
