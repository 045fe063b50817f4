"""Models as a server describes them, and references to them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self, TypeAlias

from latentserve.contract import MAX_VERSION, NAME
from latentserve.v1 import bundle_pb2
from latentserve_client.errors import RequestError

_SHOWN_NAMES = 10


class ModelState(StrEnum):
    """Where a model version stands in its life. UNKNOWN: a state that this client is too old to know."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


class Capability(StrEnum):
    """A call that a model answers. UNKNOWN: one that this client is too old to know."""

    SAMPLE = "sample"
    ENCODE = "encode"
    DECODE = "decode"
    RECONSTRUCT = "reconstruct"
    SCORE = "score"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of one model, served or not.

    Attributes:
        name: the model's name.
        version: the version, at least 1.
        state: where it stands in its life.
        reason: why it is UNAVAILABLE; empty otherwise.
        is_default: whether it answers when a call names no version.
        aliases: the movable names that point to it.
        capabilities: the calls it answers; empty unless READY.
        memory_bytes: the memory that it holds; 0 unless READY, and where the server does not say.
        row_bits: as ModelInfo's.
        numerics: as ModelInfo's; empty unless READY.
    """

    name: str
    version: int
    state: ModelState
    reason: str
    is_default: bool
    aliases: tuple[str, ...]
    capabilities: tuple[Capability, ...]
    memory_bytes: int = 0
    row_bits: str = ""
    numerics: str = ""


@dataclass(frozen=True, slots=True)
class Rescanned:
    """How things stand after a scan of the repository.

    Attributes:
        models: every version of every model, by name, then version.
        problems: what the scan could not make sense of, such as a damaged aliases.json; one line each.
    """

    models: tuple[ModelStatus, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may ask and what may wait: rows (images or latents), and bytes of one request or reply."""

    max_rows_per_request: int
    max_batch_rows: int
    max_queue_rows: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class Psi:
    """What `sample` may set a decoder's psi to, such as StyleGAN's truncation: its default, and the range around it."""

    default: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, eq=False)
class ModelInfo:
    """A READY model version. As text it fits a screen: without the manifest and the names of the labels.

    Attributes:
        name: the model's name.
        version: the version.
        aliases: the movable names that point to it.
        capabilities: the calls it answers.
        kind: "vae", "gan", "autoencoder" or "vq" (a vector-quantised one); "unknown" to this client.
        likelihood: p(x|z): "bernoulli", "gaussian" or "discretized_logistic"; "unknown" to this client; "" for none, as
            of a GAN.
        labels: the number of labels that a conditional model knows; 0 for any other.
        label_names: their names, in order; empty where they have none.
        prior: what it samples from by default: "standard_normal", "mixture" or "graph"; "" where it does not sample;
            "unknown" to this client.
        mixture_components: the number of components of the mixture prior; 0 where there is none.
        calibration_images: the number of images that scores are ranked among; 0 where they are not.
        latent_dim: the number of latent dimensions, or of codes a row.
        latent_shape: the shape in which latents come, whose product is latent_dim: (latent_dim,) for vectors.
        codes: the entries of a vector-quantised autoencoder's codebook; 0 for any other model.
        noise_dim: the number of values that the prior graph takes; 0 where there is none.
        psi: what the decoder's psi may be; None where it takes none.
        image_shape: channels, height and width.
        value_range: the smallest and largest value of a float32 pixel.
        device: where it runs: "cpu" or "cuda".
        precision: what its decoder computes in: "float32", "float16" or "int8"; "unknown" to this client; "" where the
            server does not say.
        row_bits: whether the bits of a row depend on its batch, as far as the server has tried: "batch_invariant" or
            "batch_dependent"; "unknown" to this client; "" where the server does not say.
        numerics: a fingerprint of the bits that the server computes, in hexadecimal: where it is the same, so are
            images and posteriors, to the bit. Empty, for no promise, where row_bits is not "batch_invariant".
        digest: SHA-256 of the bundle's manifest in hexadecimal; it covers every file of the bundle.
        limits: what one call may ask.
        noise_scheme: the rule from (seed, index) to latent values, with its version.
        manifest: all that the bundle says of itself: graphs, provenance, metrics of the training.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    capabilities: tuple[Capability, ...]
    kind: str
    likelihood: str
    labels: int
    label_names: tuple[str, ...] = field(repr=False)
    prior: str
    mixture_components: int
    calibration_images: int
    latent_dim: int
    latent_shape: tuple[int, ...]
    codes: int
    noise_dim: int
    psi: Psi | None
    image_shape: tuple[int, int, int]
    value_range: tuple[float, float]
    device: str
    precision: str
    row_bits: str
    numerics: str
    digest: str
    limits: Limits
    noise_scheme: str
    manifest: bundle_pb2.Manifest = field(repr=False)

    def label(self, name: str) -> int:
        """The label of that name, as calls take it.

        Raises:
            RequestError: the model has no label of that name; the message says which there are.
        """
        if name in self.label_names:
            return self.label_names.index(name)
        if not self.labels:
            allowed = "the model has no labels; give none"
        elif not self.label_names:
            allowed = f"the model's labels have no names; give 0 to {self.labels - 1}"
        else:
            more = len(self.label_names) - _SHOWN_NAMES
            shown = ", ".join(self.label_names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
            allowed = f"the model has {shown}"
        raise RequestError(f"label {name!r}: {allowed}")


_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model, and which version of it; neither version nor alias means the default, the highest READY version.

    Attributes:
        name: at most 128 ASCII letters, digits, "_", "." and "-", the first neither "." nor "-".
        version: an exact version, at least 1.
        alias: a movable name for a version, spelt as names are.

    Raises:
        RequestError: a part is misspelt, or both version and alias are given.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        if self.alias is not None:
            _check_name("alias", self.alias)
            if self.version is not None:
                raise RequestError(f"model {self.name!r}: give a version or an alias, not both")
        if self.version is not None and not (
            isinstance(self.version, int) and not isinstance(self.version, bool) and 1 <= self.version <= MAX_VERSION
        ):
            raise RequestError(f"model {self.name!r}: version {self.version!r} is not an integer from 1 to 10^18 - 1")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The model that "name", "name:3" (a version) or "name@stable" (an alias) stands for.

        Raises:
            RequestError: the text is none of the three.
        """
        name, at, alias = text.partition("@")
        if at:
            return cls(name, alias=alias)
        name, colon, version = text.partition(":")
        if not colon:
            return cls(name)
        if _VERSION.fullmatch(version) is None or len(version) > len(str(MAX_VERSION)):
            raise RequestError(f"model {text!r}: version {version!r} is not an integer from 1 to 10^18 - 1")
        return cls(name, version=int(version))

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return self.name if self.version is None else f"{self.name}:{self.version}"


def _check_name(part: str, value: object) -> None:
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise RequestError(
            f"model {part} {value!r} is not letters, digits, '_', '.' and '-', beginning with neither '.' nor '-' "
            "(a model is written name, name:3 or name@alias)"
        )


ModelLike: TypeAlias = str | ModelRef
"""A model as a ModelRef or as the text that ModelRef.parse reads."""
