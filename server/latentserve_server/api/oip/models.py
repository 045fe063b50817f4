"""Models as the protocol knows them: decoder, encoder, and both in a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_server.api.oip.model_names import Part, split_name
from latentserve_server.batching.scheduling import Scheduling
from latentserve_server.engine import Arrays, TensorSpec
from latentserve_server.errors import InvalidArgument, ModelNotFound
from latentserve_server.model.requests import PixelForm
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository

_MAX_NAME = 140  # the repository's names have at most 128 characters, the parts' 12

_FLOAT32, _UINT8, _INT64 = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class InferenceModel:
    """One part of one READY model version."""

    served: ServedModel
    part: Part

    @property
    def name(self) -> str:
        """The name under which callers find it."""
        return self.served.identity.name + self.part.value

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What goes in: latents or images, and the label of each for a conditional model."""
        rows = self._latent("latent") if self.part is Part.DECODER else self._image("image")
        return (rows, TensorSpec("label", _INT64, ())) if self.labels else (rows,)

    @property
    def labels(self) -> int:
        """The number of labels that the model knows, 0 for one that is not conditional."""
        return self.served.manifest.labels.count

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What can come out."""
        if self.part is Part.ENCODER:
            return self._latent("mean"), self._latent("log_variance")
        images = self._image("image"), self._image("image_uint8", _UINT8)
        if self.part is Part.RECONSTRUCT:
            return *images, TensorSpec("reconstruction_error", _FLOAT32, ()), TensorSpec("kl", _FLOAT32, ())
        likelihood = self.served.likelihood
        return (*images, self._image(likelihood.own_output)) if likelihood else images

    async def run(self, inputs: Arrays, wanted: tuple[str, ...], scheduling: Scheduling) -> Arrays:
        """The wanted outputs, and perhaps others, for the rows of the inputs."""
        if self.part is Part.DECODER:
            return (await self.served.infer(bundle_pb2.GRAPH_ROLE_DECODER, inputs, wanted, scheduling)).outputs
        if self.part is Part.ENCODER:
            return (await self.served.infer(bundle_pb2.GRAPH_ROLE_ENCODER, inputs, wanted, scheduling)).outputs
        forms = tuple(form.value for form in PixelForm if form.value in wanted)
        outcome, scores = await self.served.reconstruct_and_score(inputs, forms, scheduling)
        return {**outcome.outputs, "reconstruction_error": scores.reconstruction_error, "kl": scores.kl}

    def _image(self, name: str, dtype: np.dtype[Any] = _FLOAT32) -> TensorSpec:
        image = self.served.manifest.image
        return TensorSpec(name, dtype, (image.channels, image.height, image.width))

    def _latent(self, name: str) -> TensorSpec:
        return TensorSpec(name, _FLOAT32, (self.served.manifest.latent.dim,))


def parts_of(served: ServedModel) -> tuple[Part, ...]:
    """What of a model can be run."""
    encodes = models_pb2.CAPABILITY_ENCODE in served.capabilities
    return tuple(Part) if encodes else (Part.DECODER,)


@contextmanager
def lease_model(repository: Repository, name: str, version: str) -> Iterator[InferenceModel]:
    """The model that a request names, which stays open within the block.

    `version` is a number or an alias; where it is empty, the default version answers.

    Raises:
        InvalidArgument: the name or version is malformed. ModelNotFound: there is no such model, version or alias, or
            it has no encoder. ModelNotReady: there is, but it cannot answer now.
    """
    if not name:
        raise InvalidArgument("model name", "is empty; name a model")
    for field, text in (("model name", name), ("model version", version)):
        if len(text) > _MAX_NAME:  # errors repeat them, and a status holds no more than a few kilobytes
            raise InvalidArgument(field, f"is over {_MAX_NAME} characters long")
    base, part = split_name(name, repository.__contains__)
    is_number = version.isascii() and version.isdigit()
    number, alias = (int(version), None) if is_number else (None, version or None)
    with repository.lease(base, number, alias) as served:
        if part not in parts_of(served):
            raise ModelNotFound(f"model {name!r} is not in the repository: {base!r} has no encoder")
        yield InferenceModel(served, part)
