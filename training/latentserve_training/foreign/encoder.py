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
from latentserve_training.foreign.pixels import Shape, input_pixels
from latentserve_training.foreign.plan import ForeignPlan
from latentserve_training.foreign.posterior import PosteriorTensors, posterior_tensors
from latentserve_training.foreign.runner import Runner
from latentserve_training.foreign.tensor import PIXELS, main_input


@dataclass(frozen=True, kw_only=True)
class ForeignEncoderPlan(ForeignPlan):
    """Images to posteriors of the callers' latents."""

    posterior: PosteriorTensors

    @property
    def dtypes(self) -> dict[str, int]:
        """The element types of the image, the mean and the spread."""
        return {self.pixels.tensor: self.pixels.dtype, **self.posterior.dtypes}

    def compute(self, inputs: Arrays) -> Arrays:
        """The posterior of images in [0, 1]."""
        images = inputs["image"]
        found = self.runner.run(self.pixels.values(images), inputs)
        mean, log_variance = self.posterior.read(found, len(images), self.description.latent_size)
        return {
            "mean": self.to_callers(mean).astype(np.float32),
            "log_variance": self.widened(log_variance).astype(np.float32),
        }

    def write(self, path: Path) -> None:
        """Write the graph with a bundle's names, and the spread as a log-variance."""
        latent = (self.description.latent_size,)
        adapter = self.adapter()
        source = self.runner.source
        adapter.before.rename(self.pixels.feed(adapter.before, "image", source), adapter.own(source.name))
        nodes, tensors = adapter.after, self.posterior
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
    description: ForeignModel, names: ForeignEncoder, folder: Path, shape: Shape, example: Arrays
) -> ForeignEncoderPlan:
    """The plan of the described encoder, whose file lies in `folder`, checked with images and labels of `example`.

    Raises:
        ExportError: the graph does not fit the description.
    """
    graph = ForeignGraph.load("encoder", folder / names.file)
    tensors = posterior_tensors(graph, names)
    graph = graph.part(tensors)
    described = [*filter(None, [names.label]), *(names.inputs or ())]
    image = main_input(graph, names.image, "encoder.image", described, PIXELS)
    posterior = PosteriorTensors.of(graph, names, description)
    return ForeignEncoderPlan(
        role="encoder",
        example=example,
        outputs=("mean", "log_variance"),
        description=description,
        graph=graph,
        runner=Runner(
            role="encoder",
            session=graph.reference(tensors),
            source=image,
            label=LabelInput.of(graph, names, folder, description.label_count),
            fixed=fixed_inputs(graph, names.inputs),
        ),
        pixels=input_pixels(description, graph, image, shape),
        posterior=posterior,
    )
