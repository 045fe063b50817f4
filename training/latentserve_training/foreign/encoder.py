"""The plan of a foreign encoder: images in its own range to posteriors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentserve_training.errors import ExportError
from latentserve_training.export.plan import Arrays
from latentserve_training.foreign.description import ForeignEncoder, ForeignModel
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.label import LabelInput
from latentserve_training.foreign.plan import ForeignPlan, Shape, require_size


@dataclass(frozen=True, kw_only=True)
class ForeignEncoderPlan(ForeignPlan):
    """Images to posteriors."""

    names: ForeignEncoder

    def compute(self, inputs: Arrays) -> Arrays:
        """The posterior of images in [0, 1]."""
        low, high = self.description.range_
        images = (low + inputs["image"].astype(np.float64) * (high - low)).astype(np.float32)
        found = self.run(images, inputs.get("label"))
        latent = (len(images), self.description.latent_dim)
        if self.names.log_variance is not None:
            log_variance = found[self.names.log_variance]
        else:
            assert self.names.standard_deviation is not None, "the description names one of the two"
            deviation = found[self.names.standard_deviation]
            if not (deviation > 0).all():
                raise ExportError(
                    f"encoder: '{self.names.standard_deviation}' is not positive everywhere, as deviations are; "
                    "the logarithm of a variance is named in encoder.log_variance"
                )
            log_variance = 2 * np.log(deviation)
        return {"mean": found[self.names.mean].reshape(latent), "log_variance": log_variance.reshape(latent)}

    def write(self, path: Path) -> None:
        """Write the graph with a bundle's names, and a logarithm if the graph gives a standard deviation."""
        low, high = self.description.range_
        latent = (self.description.latent_dim,)
        adapter = self.adapter("image", self.shape, high - low, low)
        adapter.take(self.names.mean, latent, "mean")
        if self.names.log_variance is not None:
            adapter.take(self.names.log_variance, latent, "log_variance")
        elif self.names.standard_deviation is not None:
            deviation = adapter.take(self.names.standard_deviation, latent, "standard_deviation")
            two = adapter.constant("two", np.array(2, np.float32))
            adapter.add("Mul", [adapter.add("Log", [deviation], "log_deviation"), two], "log_variance")
        for name in self.outputs:
            adapter.give(name, latent)
        adapter.write(path)


def plan_encoder(
    description: ForeignModel, names: ForeignEncoder, folder: Path, shape: Shape, example: Arrays
) -> ForeignEncoderPlan:
    """The plan of the described encoder, whose file lies in `folder`, checked with images and labels of `example`.

    Raises:
        ExportError: the graph does not fit the description.
    """
    graph = ForeignGraph.load("encoder", folder / names.file)
    outputs = [graph.output(name) for name in (names.mean, names.log_variance or names.standard_deviation)]
    graph = graph.part(outputs)
    image = graph.main_input(names.image, names.label)
    require_size(graph, image.name, math.prod(shape), "the decoder's image")
    for name in outputs:
        require_size(graph, name, description.latent_dim, "latent_dim")
    return ForeignEncoderPlan(
        role="encoder",
        example=example,
        outputs=("mean", "log_variance"),
        description=description,
        graph=graph,
        reference=graph.reference(outputs),
        source=image,
        label=LabelInput.of(graph, names.label, description.label_count),
        shape=shape,
        names=names,
    )
