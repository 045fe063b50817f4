"""The YAML description of a foreign model: its ONNX files and what their tensors mean."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentError

from latentserve.contract import MAX_LABELS, MIN_LABELS
from latentserve_training.command_line.parser import make_file_parser
from latentserve_training.command_line.yaml_file import place_of, read_options
from latentserve_training.errors import ConfigError
from latentserve_training.foreign.reading import ForeignReading

_SECTIONS = ("decoder", "encoder", "reading")
_LARGEST_LOG_SCALE = 30.0
_LABELS = range(MIN_LABELS, MAX_LABELS + 1)
"""Numbers of labels that a bundle may have."""


@dataclass(frozen=True, kw_only=True)
class ForeignDecoder:
    """The graph from latents to images."""

    file: Path
    """The ONNX file, relative to the description's folder."""

    latent: str | None = None
    """Name of the input; not needed where there is one."""

    label: str | None = None
    """Name of the input for labels, in a model that has labels."""

    image: str | None = None
    """Name of the output that is the image; not needed where there is one."""

    logits: str | None = None
    """Name of the tensor, an output or not, whose sigmoid is the image; not needed where a Sigmoid node gives it."""

    log_scale: str | None = None
    """Name of the tensor, an output or not, that is the logarithm of each pixel's scale."""


@dataclass(frozen=True, kw_only=True)
class ForeignEncoder:
    """The graph from images to posteriors."""

    file: Path
    """The ONNX file, relative to the description's folder."""

    mean: str
    """Name of the output that is the posterior's mean."""

    log_variance: str | None = None
    """Name of the output that is the natural logarithm of the posterior's variance."""

    standard_deviation: str | None = None
    """Name of the output that is the posterior's standard deviation, where there is no logarithm of the variance."""

    image: str | None = None
    """Name of the input; not needed where there is one."""

    label: str | None = None
    """Name of the input for labels, where the encoder of a model with labels looks at them."""


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A model as ONNX files, and the facts that they do not state."""

    kind: Literal["vae", "gan"]
    """A VAE has an encoder and a likelihood, a GAN has neither."""

    latent_dim: int
    """Number of latent dimensions, drawn from N(0, I)."""

    decoder: ForeignDecoder
    """The decoder, or the GAN's generator."""

    encoder: ForeignEncoder | None = None
    """The VAE's encoder."""

    image_range: list[float] | None = None
    """Smallest and largest value of a pixel as the graphs draw and read it; [0, 1] when absent."""

    image_shape: list[int] | None = None
    """Channels, height and width; needed where the decoder's output does not say them."""

    reading: ForeignReading = field(default_factory=ForeignReading)
    """How picture files were read."""

    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] | None = None
    """The VAE's likelihood of pixels."""

    log_scale: float | None = None
    """Logarithm of the likelihood's scale, where it is one number; in units of image_range."""

    labels: int | list[str | int] | None = None
    """How many labels a conditional model knows, or what they are called, from label 0."""

    family: str = "imported"
    """What kind of network it is."""

    dataset: str = ""
    """What it was trained on."""

    def __post_init__(self) -> None:
        vae, scaled = self.kind == "vae", self.likelihood in ("gaussian", "discretized_logistic")
        _demand(self.latent_dim >= 1, f"latent_dim is {self.latent_dim}; it must be at least 1")
        _demand(vae == (self.encoder is not None), "encoder: a vae has one, and a gan has none")
        _demand(vae == (self.likelihood is not None), "likelihood: a vae has one, and a gan has none")
        low, high = self.range_ if len(self.image_range or (0, 1)) == 2 else (0, 0)
        finite = math.isfinite(low) and math.isfinite(high)
        _demand(finite and low < high, f"image_range is {self.image_range}; it must be [smallest, largest]")
        shape = self.image_shape
        fits = shape is None or (len(shape) == 3 and shape[0] in (1, 3) and min(shape) >= 1)
        _demand(fits, f"image_shape is {shape}; it must be [1 or 3 channels, height, width]")
        scales = (self.log_scale is not None) + (self.decoder.log_scale is not None)
        _demand(scales == scaled, "log_scale: a gaussian or discretized_logistic likelihood has one, others have none")
        _demand(self.likelihood == "bernoulli" or self.decoder.logits is None, "decoder.logits is only for bernoulli")
        bounded = self.log_scale is None or abs(self.log_scale) <= _LARGEST_LOG_SCALE
        _demand(
            bounded, f"log_scale is {self.log_scale}; it must be from -{_LARGEST_LOG_SCALE:g} to {_LARGEST_LOG_SCALE:g}"
        )
        self._check_labels()
        if self.encoder is not None:
            spreads = (self.encoder.log_variance is not None) + (self.encoder.standard_deviation is not None)
            _demand(spreads == 1, "encoder: name one of log_variance and standard_deviation")

    def _check_labels(self) -> None:
        names = self.label_names
        _demand(len(set(names)) == len(names), f"labels are {list(names)}; each must have a name of its own")
        known = self.labels is None or self.label_count in _LABELS
        _demand(known, f"labels are {self.label_count}; there must be {_LABELS[0]} to {_LABELS[-1]:,}")
        asked = self.decoder.label is not None
        _demand(asked == (self.labels is not None), "decoder.label: a model with labels has one, others have none")
        taught = self.encoder is not None and self.encoder.label is not None
        _demand(self.labels is not None or not taught, "encoder.label is for a model with labels")

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of labels 0, 1, ...; empty if the description gives none."""
        return tuple(map(str, self.labels)) if isinstance(self.labels, list) else ()

    @property
    def label_count(self) -> int:
        """The number of labels; 0 for a model without."""
        return len(self.labels) if isinstance(self.labels, list) else self.labels or 0

    @property
    def range_(self) -> tuple[float, float]:
        """The smallest and the largest value of a pixel."""
        low, high = self.image_range or (0.0, 1.0)
        return low, high


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise ConfigError(problem)


def read_description(path: Path) -> ForeignModel:
    """The model that the YAML file describes.

    Raises:
        ConfigError: the file cannot be read, or a value is unknown, missing or not allowed.
    """
    parser = make_file_parser()
    parser.add_class_arguments(ForeignModel)
    content = read_options(path, sections=_SECTIONS, may_be_empty=True)
    content = {key: value for key, value in content.items() if value is not None or key not in _SECTIONS}
    try:
        values = parser.instantiate(parser.parse_object(content))
        return ForeignModel(**{name: getattr(values, name) for name in ForeignModel.__dataclass_fields__})
    except (ConfigError, ArgumentError, TypeError) as error:
        named = re.match(r"[\w.]*\w", str(error))
        place = named and place_of(named[0], path)
        raise ConfigError(f"{place or path}: {error}") from error
