"""Requests as a model takes them, one frozen value a call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from latentserve_server.batching.scheduling import WHENEVER, Scheduling
from latentserve_server.latent.labels import NO_LABELS, Labels
from latentserve_server.latent.prior import STANDARD_NORMAL, SamplingSpec


class PixelForm(Enum):
    """The form in which a decoder gives images; the value is the output's name in the graph."""

    FLOAT32 = "image"
    UINT8 = "image_uint8"


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRequest:
    """Rows `first_index` to `first_index + count - 1` of a seed's images."""

    count: int
    seed: int
    first_index: int = 0
    form: PixelForm = PixelForm.FLOAT32
    sampling: SamplingSpec = STANDARD_NORMAL
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER


@dataclass(frozen=True, kw_only=True, slots=True)
class PosteriorDraw:
    """One latent from each posterior, with the noise of `first_index` and so on of a seed."""

    seed: int
    first_index: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeRequest:
    """Posteriors of images, and latents drawn from them."""

    draw: PosteriorDraw | None = None
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRequest:
    """Images of latents."""

    form: PixelForm = PixelForm.FLOAT32
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER
    field: str = "latents"
    """The field of the request from which the latents are, for errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructRequest:
    """Images decoded from the posterior means of images."""

    form: PixelForm = PixelForm.FLOAT32
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """How well images are explained: at the posterior mean for 0 draws, else over so many draws an image."""

    draws: int = 0
    seed: int = 0
    first_index: int = 0
    """Of the images: image i has the noise of (first_index + i) * draws and so on."""
    labels: Labels = NO_LABELS
    scheduling: Scheduling = WHENEVER
