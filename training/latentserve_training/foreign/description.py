"""The description of a foreign model: its ONNX files and what their tensors mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from latentserve.contract import (
    CHANNELS,
    MAX_IMAGE_PIXELS,
    MAX_LABELS,
    MAX_LATENT_DIM,
    MAX_LATENT_SIDES,
    MIN_LABELS,
)
from latentserve_training.errors import ConfigError
from latentserve_training.foreign.affine import Affine
from latentserve_training.foreign.graph_description import ForeignDecoder, ForeignEncoder
from latentserve_training.foreign.prior_description import ForeignPrior
from latentserve_training.foreign.reading import ForeignReading
from latentserve_training.foreign.shaping_description import ForeignPsi, ForeignShaping

_LARGEST_LOG_SCALE = 30.0
_LARGEST_LATENT_SCALE = 1e6
_LABELS = range(MIN_LABELS, MAX_LABELS + 1)
"""Numbers of labels that a bundle may have."""
_CODES = range(1, 2**31)
"""Sizes of a codebook, as far as int32 indices go."""


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A model as ONNX files, and the facts that they do not state."""

    kind: Literal["vae", "gan", "autoencoder", "vq"]
    """A VAE has an encoder and a likelihood, a GAN has neither; the encoders of others give latents, or codes."""

    decoder: ForeignDecoder
    """The decoder, or the GAN's generator."""

    latent_dim: int | None = None
    """Number of latent dimensions, drawn from N(0, I)."""

    latent_shape: list[int] | None = None
    """Shape of one latent as the graphs have it, where it is more than a row; in the place of latent_dim."""

    latent_scale: float = 1.0
    """The callers' latents are latent_scale * (z - latent_shift), where z are the graphs' own."""

    latent_shift: float = 0.0
    """What is taken from the graphs' own latents before they are scaled."""

    codes: int | None = None
    """Entries of the codebook of a vector-quantised autoencoder, whose latents are indices from 0."""

    prior: Literal["standard_normal", "none"] | ForeignPrior | None = None
    """The distribution that latents are drawn from: N(0, I) of the callers' latents, a graph, a mixture, or none."""

    encoder: ForeignEncoder | None = None
    """The encoder; a GAN has none."""

    image_range: list[float] | None = None
    """Smallest and largest value of a pixel as the graphs draw and read it; [0, 1] when absent, of bytes [0, 255]."""

    clip: bool = False
    """Whether pixels that the decoder draws beyond image_range become the nearest allowed ones."""

    layout: Literal["nchw", "nhwc"] | None = None
    """Whether an image's channels come first or last in the graphs; read off the shapes when absent."""

    image_shape: list[int] | None = None
    """Channels, height and width, in this order; needed where the decoder's output does not say them."""

    shaping: ForeignShaping | None = None
    """What callers may set of the decoder."""

    reading: ForeignReading = field(default_factory=ForeignReading)
    """How picture files were read."""

    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] | None = None
    """The likelihood of pixels; a VAE has one."""

    log_scale: float | None = None
    """Logarithm of the likelihood's scale, where it is one number; in units of image_range."""

    labels: int | list[str | int] | None = None
    """How many labels a conditional model knows, or what they are called, from label 0."""

    family: str = "imported"
    """What kind of network it is."""

    dataset: str = ""
    """What it was trained on."""

    def __post_init__(self) -> None:
        self.decoder.check()
        if self.encoder is not None:
            self.encoder.check(self.kind)
        vae, gan = self.kind == "vae", self.kind == "gan"
        _demand(gan != (self.encoder is not None), "encoder: a gan has none, and every other kind has one")
        _demand(not vae or self.likelihood is not None, "likelihood: a vae has one")
        _demand(not gan or self.likelihood is None, "likelihood: a gan has none")
        self._check_latents()
        self._check_codes()
        self._check_prior()
        self._check_images()
        self._check_likelihood()
        self._check_labels()
        self._check_shaping()

    def _check_latents(self) -> None:
        shape = self.latent_shape
        _demand(
            (self.latent_dim is None) != (shape is None), "latent_dim is missing, or latent_shape; give one of both"
        )
        _demand(
            self.latent_dim is None or self.latent_dim >= 1, f"latent_dim is {self.latent_dim}; it must be at least 1"
        )
        sides = shape is None or (1 <= len(shape) <= MAX_LATENT_SIDES and min(shape) >= 1)
        allowed = f"it must be 1 to {MAX_LATENT_SIDES} numbers of at least 1, such as [channels, height, width]"
        _demand(sides, f"latent_shape is {shape}; {allowed}")
        given = self.latent_dim if shape is None else shape
        few = f"{self.latent_option} is {given}; a latent has at most {MAX_LATENT_DIM:,} values"
        _demand(self.latent_size <= MAX_LATENT_DIM, few)
        bounded = 1 / _LARGEST_LATENT_SCALE <= self.latent_scale <= _LARGEST_LATENT_SCALE
        allowed = f"it must be from {1 / _LARGEST_LATENT_SCALE:g} to {_LARGEST_LATENT_SCALE:g}"
        _demand(bounded, f"latent_scale is {self.latent_scale}; {allowed}")
        near = abs(self.latent_shift) <= _LARGEST_LATENT_SCALE
        allowed = f"it must be from -{_LARGEST_LATENT_SCALE:g} to {_LARGEST_LATENT_SCALE:g}"
        _demand(near, f"latent_shift is {self.latent_shift}; {allowed}")

    def _check_codes(self) -> None:
        quantised, known = self.kind == "vq", self.codes
        _demand(quantised == (known is not None), "codes: a vq has a number of them, others have none")
        _demand(known is None or known in _CODES, f"codes are {known}; there must be {_CODES[0]} to {_CODES[-1]:,}")
        plain = (self.latent_scale, self.latent_shift) == (1.0, 0.0)
        _demand(plain or not quantised, "latent_scale and latent_shift are for latents that are numbers, not codes")

    def _check_prior(self) -> None:
        if isinstance(self.prior, ForeignPrior):
            self.prior.check(self.kind)
            asked = self.prior.label is None or self.labels is not None
            _demand(asked, "prior.label is for a model with labels")
        drawn = self.kind in ("vae", "gan")
        _demand(self.prior != "none" or not drawn, f"prior is none; a {self.kind} draws its latents from one")
        quantised = self.kind == "vq" and self.prior == "standard_normal"
        _demand(not quantised, "prior is standard_normal; codes have none, or a graph")

    def _check_images(self) -> None:
        low, high = (
            self.image_range if self.image_range and len(self.image_range) == 2 else (0, int(not self.image_range))
        )
        finite = math.isfinite(low) and math.isfinite(high)
        _demand(finite and low < high, f"image_range is {self.image_range}; it must be [smallest, largest]")
        shape = self.image_shape
        fits = shape is None or (len(shape) == 3 and shape[0] in CHANNELS and min(shape) >= 1)
        _demand(fits, f"image_shape is {shape}; it must be [{channels_text()} channels, height, width]")
        small = shape is None or math.prod(shape[1:]) <= MAX_IMAGE_PIXELS
        _demand(small, f"image_shape is {shape}; an image has at most {MAX_IMAGE_PIXELS:,} pixels")

    def _check_likelihood(self) -> None:
        decoder, scaled = self.decoder, self.likelihood in ("gaussian", "discretized_logistic")
        scales = [self.log_scale, decoder.log_scale, decoder.log_variance]
        told = sum(scale is not None for scale in scales) == scaled
        _demand(told, "log_scale: a gaussian or discretized_logistic likelihood has one, others have none")
        normal = self.likelihood == "gaussian" or decoder.log_variance is None
        _demand(normal, "decoder.log_variance is only for gaussian; name a scale in decoder.log_scale")
        _demand(self.likelihood == "bernoulli" or decoder.logits is None, "decoder.logits is only for bernoulli")
        bounded = self.log_scale is None or abs(self.log_scale) <= _LARGEST_LOG_SCALE
        allowed = f"it must be from -{_LARGEST_LOG_SCALE:g} to {_LARGEST_LOG_SCALE:g}"
        _demand(bounded, f"log_scale is {self.log_scale}; {allowed}")

    def _check_labels(self) -> None:
        names = self.label_names
        _demand(len(set(names)) == len(names), f"labels are {list(names)}; each must have a name of its own")
        known = self.labels is None or self.label_count in _LABELS
        _demand(known, f"labels are {self.label_count}; there must be {_LABELS[0]} to {_LABELS[-1]:,}")
        asked = self.decoder.label is not None
        _demand(asked == (self.labels is not None), "decoder.label: a model with labels has one, others have none")
        taught = self.encoder is not None and self.encoder.label is not None
        _demand(self.labels is not None or not taught, "encoder.label is for a model with labels")
        for role, section in (("decoder", self.decoder), ("encoder", self.encoder)):
            lone = section is not None and section.label_embeddings is not None and section.label is None
            _demand(not lone, f"{role}.label_embeddings are for an input named in {role}.label")

    def _check_shaping(self) -> None:
        if self.shaping is not None:
            self.shaping.check()
            described = (self.decoder.latent, *self.decoder.beside)
            twice = f"decoder: {self.shaping.psi.input!r} is described twice; it is shaping.psi, and something else"
            _demand(self.shaping.psi.input not in described, twice)

    @property
    def psi(self) -> ForeignPsi | None:
        """The decoder's psi, if callers may set it."""
        return None if self.shaping is None else self.shaping.psi

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of labels 0, 1, ...; empty if the description gives none."""
        return tuple(map(str, self.labels)) if isinstance(self.labels, list) else ()

    @property
    def label_count(self) -> int:
        """The number of labels; 0 for a model without."""
        return len(self.labels) if isinstance(self.labels, list) else self.labels or 0

    @property
    def latent_sides(self) -> tuple[int, ...]:
        """The shape of one latent in the graphs."""
        return tuple(self.latent_shape) if self.latent_shape else (self.latent_dim or 0,)

    @property
    def latent_size(self) -> int:
        """How many numbers a latent has."""
        return math.prod(self.latent_sides)

    @property
    def latent_option(self) -> str:
        """The option that tells the size, for messages."""
        return "latent_shape" if self.latent_shape else "latent_dim"

    @property
    def prior_graph(self) -> ForeignPrior | None:
        """The prior, if it is a graph."""
        return self.prior if isinstance(self.prior, ForeignPrior) and self.prior.graph is not None else None

    @property
    def has_prior(self) -> bool:
        """Whether latents can be drawn."""
        return self.kind in ("vae", "gan") or self.prior not in (None, "none")

    @property
    def to_own_latents(self) -> Affine:
        """From the callers' latents to the graphs' own."""
        return Affine(1 / self.latent_scale, self.latent_shift)


def channels_text() -> str:
    """How many channels an image may have, in words."""
    few = len(CHANNELS) <= 3
    return " or ".join(map(str, CHANNELS)) if few else f"{CHANNELS[0]} to {CHANNELS[-1]:,}"


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise ConfigError(problem)
