"""The plan of a foreign prior: a graph that turns noise into latents, as of a flow or a VampPrior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto

from latentserve.contract import MAX_LATENT_DIM
from latentserve_training.errors import ExportError
from latentserve_training.export.plan import Arrays
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.fixed_input import fixed_inputs
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.label import LabelInput, labels_in_turn
from latentserve_training.foreign.latents import Latents, LatentTensor
from latentserve_training.foreign.plan import ForeignPlan
from latentserve_training.foreign.prior_description import ForeignPrior
from latentserve_training.foreign.runner import Runner
from latentserve_training.foreign.tensor import FLOATS, batch_of, main_input, row_shape


@dataclass(frozen=True, kw_only=True)
class ForeignPriorPlan(ForeignPlan):
    """Noise to the callers' latents."""

    latent: LatentTensor

    @property
    def dtypes(self) -> dict[str, int]:
        """The element types of the noise and the latent."""
        return {self.runner.source.name: self.runner.dtype} | self.latent.dtypes

    @property
    def noise_dim(self) -> int:
        """How many values a row of noise has."""
        return int(self.example["noise"].shape[1])

    def compute(self, inputs: Arrays) -> Arrays:
        """The latents or codes."""
        found = self.runner.run(inputs["noise"], inputs)
        where = f"prior: {self.latent.name!r}"
        return {self.latent.latents.name: self.latent.latents.callers(found[self.latent.name], where)}

    def write(self, path: Path) -> None:
        """Write the graph with a bundle's names."""
        adapter, source, latents = self.adapter(), self.runner.source, self.latent.latents
        noise = adapter.before.cast("noise", TensorProto.FLOAT, self.runner.dtype)
        own = row_shape(source, (self.noise_dim,))
        fed = noise if own == (self.noise_dim,) else adapter.before.reshape(noise, own)
        adapter.before.rename(fed, adapter.own(source.name))
        taken = latents.take(adapter.after, adapter.own(self.latent.name), self.latent.dtype)
        adapter.give(taken, latents.name, (latents.size,), latents.dtype)
        adapter.write(path, self.outputs)


def plan_prior(description: ForeignModel, prior: ForeignPrior, folder: Path, rows: int, seed: int) -> ForeignPriorPlan:
    """The plan of the described graph, whose file lies in `folder`, checked with noise drawn with `seed`.

    Raises:
        ExportError: the graph does not fit the description.
    """
    assert prior.graph is not None, "the description has been checked"
    graph = ForeignGraph.load("prior", folder / prior.graph)
    output = graph.output(prior.latent)
    graph = graph.part([output])
    described = [*filter(None, [prior.label]), *(prior.inputs or ())]
    noise = main_input(graph, prior.noise, "prior.noise", described, FLOATS)
    latents = Latents.of(description)
    example: Arrays = {
        "noise": np.random.default_rng(seed).standard_normal((rows, _noise_dim(graph, noise.name, prior)), np.float32)
    }
    if description.label_count:
        example["label"] = labels_in_turn(description.label_count, rows)
    return ForeignPriorPlan(
        role="prior",
        example=example,
        outputs=(latents.name,),
        description=description,
        graph=graph,
        runner=Runner(
            role="prior",
            session=graph.reference([output]),
            source=noise,
            label=LabelInput.of(graph, prior.label, None, folder, description.label_count),
            fixed=fixed_inputs(graph, prior.inputs),
        ),
        latent=LatentTensor.of(graph, output, latents),
    )


def _noise_dim(graph: ForeignGraph, name: str, prior: ForeignPrior) -> int:
    """The values that a row of noise has.

    Raises:
        ExportError: nothing says it, or the file and the description differ; or a bundle's may not have as many.
    """
    shape = graph.shape(name)
    if shape is None:
        if prior.noise_dim is None:
            raise ExportError(f"prior: {name!r} does not say how many values it takes; set prior.noise_dim")
        return prior.noise_dim
    found = math.prod(shape)
    if prior.noise_dim not in (None, found):
        raise ExportError(f"prior: {name!r} is {batch_of(shape)}, but prior.noise_dim is {prior.noise_dim}")
    if found > MAX_LATENT_DIM:
        raise ExportError(f"prior: {name!r} takes {found:,} values; at most {MAX_LATENT_DIM:,} are allowed")
    return found
