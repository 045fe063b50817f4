"""Models as the protocol knows them: decoder, encoder, and both in a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from latentserve.v1 import bundle_pb2, models_pb2
from latentserve_server.api.oip.model_names import Part, split_name
from latentserve_server.batching.scheduling import Scheduling
from latentserve_server.engine import Arrays, TensorSpec
from latentserve_server.errors import InvalidArgument, ModelNotFound
from latentserve_server.model.requests import FLOAT32_PIXELS, UINT8_PIXELS
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository

_MAX_NAME = 140  # the repository's names have at most 128 characters, the parts' 12

_ERROR, _KL = (TensorSpec(name, np.dtype(np.float32), ()) for name in ("reconstruction_error", "kl"))


class InferenceModel(NamedTuple):
    """One part of one READY model version, which stays open within a block."""

    served: ServedModel
    part: Part

    def __enter__(self) -> InferenceModel:
        """Take a lease, for the block."""
        self.served.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.served.__exit__()

    @property
    def name(self) -> str:
        """The name under which callers find it."""
        return self.served.identity.name + self.part.value

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What goes in: latents, codes or images, the label of each for a conditional model, and a decoder's psi."""
        tensors, decodes = self.served.tensors, self.part is Part.DECODER
        rows = tensors[self.served.kind.decodes if decodes else "image"]
        labels = (tensors["label"],) if self.served.known_labels else ()
        return (rows, *labels, tensors["psi"]) if decodes and self.served.psi is not None else (rows, *labels)

    @property
    def known(self) -> Mapping[str, int]:
        """How many integers an input of them may be, from 0 on, by its name."""
        return {"label": self.served.known_labels, "codes": self.served.manifest.latent.codes}

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What can come out."""
        tensors, likelihood = self.served.tensors, self.served.likelihood
        if self.part is Part.ENCODER:
            return tuple(tensors[name] for name in self.served.kind.encodes)
        images = tensors[FLOAT32_PIXELS], tensors[UINT8_PIXELS]
        if self.part is Part.RECONSTRUCT:
            kl = (_KL,) if self.served.kind.has_variances else ()
            return *images, *((_ERROR, *kl) if likelihood else ())
        return (*images, tensors[likelihood.own_output]) if likelihood else images

    async def run(self, inputs: Arrays, wanted: tuple[str, ...], scheduling: Scheduling) -> Arrays:
        """The wanted outputs, and perhaps others, for the rows of the inputs."""
        if self.part is Part.DECODER:
            return (await self.served.infer(bundle_pb2.GRAPH_ROLE_DECODER, inputs, wanted, scheduling)).outputs
        if self.part is Part.ENCODER:
            return (await self.served.infer(bundle_pb2.GRAPH_ROLE_ENCODER, inputs, wanted, scheduling)).outputs
        forms = tuple(form for form in (FLOAT32_PIXELS, UINT8_PIXELS) if form in wanted)
        outcome, scores = await self.served.reconstruct_and_score(inputs, forms, scheduling)
        found = {_ERROR.name: scores.reconstruction_error, _KL.name: scores.kl}
        return {**outcome.outputs, **{name: rows for name, rows in found.items() if rows is not None}}


def parts_of(served: ServedModel) -> tuple[Part, ...]:
    """What of a model can be run."""
    encodes = models_pb2.CAPABILITY_ENCODE in served.abilities.capabilities
    return tuple(Part) if encodes else (Part.DECODER,)


def lease_model(repository: Repository, name: str, version: str) -> InferenceModel:
    """The model that a request names, for as long as the block that answers it: the model stays open that long.

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
    served = repository.get(base, number, alias)
    if part is not Part.DECODER and part not in parts_of(served):
        raise ModelNotFound(f"model {name!r} is not in the repository: {base!r} has no encoder")
    return InferenceModel(served, part)
