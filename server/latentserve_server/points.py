"""Points of a request as latents: given, drawn from seeds, or encoded from images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import generation_pb2 as pb
from latentserve_server.answers import Spent
from latentserve_server.errors import InvalidArgument
from latentserve_server.images import read_images, read_latents
from latentserve_server.labels import Labels
from latentserve_server.served_model import ServedModel
from latentserve_server.terms import Terms
from latentserve_server.workers import Workers

_SEED_BYTES = 1 << 14
"""A draw of one row costs about as much as work on so many bytes."""


async def locate(
    field: str,
    points: pb.Points,
    model: ServedModel,
    terms: Terms,
    workers: Workers,
    labels: Labels,
    *,
    expected: int | None = None,
) -> tuple[NDArray[np.float32], Spent]:
    """The latents [n, latent_dim] that points name, and what finding them cost. Images are encoded with the labels.

    Raises:
        InvalidArgument: nothing is named, too much, not as much as `expected`, or what is named is malformed.
        CapabilityMissing: images are named and the model has no encoder.
    """
    latents, spent = await _locate(field, points, model, terms, workers, labels)
    model.check_rows(field, len(latents))
    if expected is not None and len(latents) != expected:
        raise InvalidArgument(field, f"{len(latents)} points where {expected} are wanted")
    return latents, spent


async def _locate(
    field: str, points: pb.Points, model: ServedModel, terms: Terms, workers: Workers, labels: Labels
) -> tuple[NDArray[np.float32], Spent]:
    match points.WhichOneof("source"):
        case "latents":
            dim = model.manifest.latent.dim
            return await read_latents(f"{field}.latents", points.latents, dim, workers), Spent()
        case "seeds":
            seeds = points.seeds.seeds
            model.check_rows(f"{field}.seeds", len(seeds))
            return await workers.run(_SEED_BYTES * len(seeds), model.prior_rows, list(seeds)), Spent()
        case "images":
            limits = model.manifest.image, model.limits.max_rows_per_request
            images = await read_images(f"{field}.images", points.images, *limits, workers)
            encoded = await model.encode(images, terms, labels)
            return encoded.mean, encoded.spent
        case _:
            raise InvalidArgument(field, "none of latents, seeds and images is set")
