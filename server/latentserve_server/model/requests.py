"""Requests as a model takes them, one value a call; named tuples, which are made three times as fast as dataclasses."""

from __future__ import annotations

from typing import NamedTuple

from latentserve_server.batching.scheduling import WHENEVER, Scheduling
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.latent.prior import STANDARD_NORMAL, SamplingSpec

FLOAT32_PIXELS, UINT8_PIXELS = "image", "image_uint8"
"""A decoder's outputs, by the form in which they give the same images."""


class SampleRequest(NamedTuple):
    """Rows `first_index` to `first_index + rows - 1` of a seed's images."""

    rows: int
    seed: int
    first_index: int = 0
    form: str = FLOAT32_PIXELS
    sampling: SamplingSpec = STANDARD_NORMAL
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER
    psi: float | None = None
    """That of the decoder, which must have one where it is given."""


class PosteriorDraw(NamedTuple):
    """One latent from each posterior, with the noise of `first_index` and so on of a seed."""

    seed: int
    first_index: int = 0


class EncodeRequest(NamedTuple):
    """Posteriors of images, and latents drawn from them."""

    draw: PosteriorDraw | None = None
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER


class DecodeRequest(NamedTuple):
    """Images of latents."""

    form: str = FLOAT32_PIXELS
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER
    field: str = "latents"
    """The field of the request from which the latents are, for errors."""


class ReconstructRequest(NamedTuple):
    """Images decoded from the posterior means of images."""

    form: str = FLOAT32_PIXELS
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER


class ScoreRequest(NamedTuple):
    """How well images are explained: at the posterior mean for 0 draws, else over so many draws an image."""

    draws: int = 0
    seed: int = 0
    first_index: int = 0
    """Of the images: image i has the noise of (first_index + i) * draws and so on."""
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER
    map_form: str | None = None
    """How the nats of every pixel are wanted, if they are."""
