"""What goes into a call and what comes out of it, as plain frozen values: no messages, no channel.

Arrays that come out of a reply share its memory and are read-only; copy one to change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Literal, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2

Format: TypeAlias = Literal["float32", "uint8", "png"]
"""How images come back: float32 or uint8 array [n, channels, height, width], or one PNG file an image."""

ImageArray: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]
ImagesT = TypeVar("ImagesT", bound=ImageArray | list[bytes], covariant=True)

ImagesLike: TypeAlias = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.uint8] | Sequence[bytes]
"""Images to send: [n, channels, height, width] in the model's value range (float) or 0 to 255 (uint8), or n PNG or JPEG
files. float64 is converted to float32."""

LatentsLike: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
"""Latents to send: [n, latent_dim]. float64 is converted to float32."""


class CallOptions(TypedDict, total=False):
    """What every call takes besides its own arguments.

    Attributes:
        timeout: seconds that this call may take, retries included, instead of the client's own.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.
    """

    timeout: float | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a call's time went on the server, in nanoseconds of its monotonic clock.

    Attributes:
        queue_ns: waiting for the engine.
        compute_ns: running batches that held rows of this call.
        total_ns: from the decoded request to the encoded reply.
    """

    queue_ns: int
    compute_ns: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class Served:
    """Who answered a call: the model and version, where the time went, and the id under which it is logged."""

    model: str
    version: int
    timing: Timing
    request_id: str


@dataclass(frozen=True, slots=True, eq=False)
class Samples(Generic[ImagesT]):
    """Images drawn from the prior.

    Attributes:
        images: n images in index order, in the format asked for.
        seed: the seed they were drawn with.
        first_index: the index of the first one within the seed's sequence.
        noise_scheme: the rule from (seed, index) to latent values, with its version.
        served: who answered.
    """

    images: ImagesT
    seed: int
    first_index: int
    noise_scheme: str
    served: Served


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """q(z|x) = N(mean, diag(exp(log_variance))), one row an image.

    Attributes:
        mean: float32 [n, latent_dim].
        log_variance: float32 [n, latent_dim], natural logarithm.
        z: float32 [n, latent_dim], one draw from each posterior; None unless draw_seed was given.
        seed: the seed of the draws; None where z is.
        noise_scheme: the rule of the draws, with its version; None where z is.
        served: who answered.
    """

    mean: NDArray[np.float32]
    log_variance: NDArray[np.float32]
    z: NDArray[np.float32] | None
    seed: int | None
    noise_scheme: str | None
    served: Served


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Generic[ImagesT]):
    """Images of latents, in the order of the latents and in the format asked for, and who answered."""

    images: ImagesT
    served: Served


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction(Generic[ImagesT]):
    """Decoded posterior means, and what was lost on the way.

    Attributes:
        images: n images in the order of the request, in the format asked for.
        reconstruction_error: float32 [n], -log p(x|z) at the posterior mean in nats, summed over pixels and channels.
        kl: float32 [n], KL(q(z|x) || N(0, I)) in nats, summed over latent dimensions.
        served: who answered.
    """

    images: ImagesT
    reconstruction_error: NDArray[np.float32]
    kl: NDArray[np.float32]
    served: Served


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
    """

    name: str
    version: int
    state: ModelState
    reason: str
    is_default: bool
    aliases: tuple[str, ...]
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may ask and what may wait: rows (images or latents), and bytes of one request or reply."""

    max_rows_per_request: int
    max_batch_rows: int
    max_queue_rows: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class ModelInfo:
    """A READY model version.

    Attributes:
        name: the model's name.
        version: the version.
        aliases: the movable names that point to it.
        capabilities: the calls it answers.
        kind: "vae" or "gan".
        latent_dim: the number of latent dimensions.
        image_shape: channels, height and width.
        value_range: the smallest and largest value of a float32 pixel.
        device: where it runs: "cpu" or "cuda".
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
    latent_dim: int
    image_shape: tuple[int, int, int]
    value_range: tuple[float, float]
    device: str
    digest: str
    limits: Limits
    noise_scheme: str
    manifest: bundle_pb2.Manifest
