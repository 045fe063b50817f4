"""Results of calls, as plain frozen values: no messages, no channel.

Arrays that come out of a reply share its memory and are read-only; copy one to change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_client.errors import FormatError


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a call's time went on the server, in nanoseconds of its monotonic clock.

    Attributes:
        queue_ns: waiting for the engine.
        compute_ns: running batches that held rows of this call.
        total_ns: from the decoded request to the encoded reply.
        batch_rows: rows of the largest batch that held rows of this call, other callers' included; no time.
    """

    queue_ns: int
    compute_ns: int
    total_ns: int
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Served:
    """Who answered a call.

    Attributes:
        model: the model's name.
        version: the version that answered.
        timing: where the time went.
        request_id: the id under which the server's log has the call.
        numerics: the fingerprint of the bits that the version computes there, as in ModelInfo.
    """

    model: str
    version: int
    timing: Timing
    request_id: str
    numerics: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Images in the form that was asked for: one array, or files."""

    _pictures: NDArray[Any] | list[bytes] = field(repr=False)

    @property
    def images(self) -> NDArray[Any]:
        """The images as one array [n, channels, height, width] of the dtype asked for: float32, float16 or uint8.

        Raises:
            FormatError: they were asked for as files.
        """
        if isinstance(self._pictures, list):
            raise FormatError('the images came as files; read files, or ask for format="float32", "float16" or "uint8"')
        return self._pictures

    @property
    def files(self) -> list[bytes]:
        """The encoded files, one an image; with grid_columns one file, the picture of all images.

        Raises:
            FormatError: the images were asked for as an array.
        """
        if not isinstance(self._pictures, list):
            raise FormatError('the images came as an array; read images, or ask for format="png", "jpeg" or "webp"')
        return self._pictures


@dataclass(frozen=True, slots=True, eq=False)
class Samples(Pictures):
    """Images drawn from the prior: those of a call, or one chunk of a stream.

    Attributes:
        images: float32, float16 or uint8 [n, channels, height, width] in index order.
        files: the same as n encoded files instead, where a file format was asked for.
        seed: the seed they were drawn with.
        first_index: the index of the first one within the seed's sequence.
        noise_scheme: the rule from (seed, index) to latent values, with its version.
        served: who answered.
        labels: int64 [n], the label of each image; None where the model has no labels.
    """

    seed: int
    first_index: int
    noise_scheme: str
    served: Served
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """q(z|x) = N(mean, diag(exp(log_variance))), one row an image; of an autoencoder its latents, or its codes.

    Attributes:
        mean: float32 [n, *latent_shape]: the means, or the latents of an autoencoder; None where there are codes.
        log_variance: float32 [n, *latent_shape], natural logarithm; None where the encoder is deterministic.
        z: float32 [n, *latent_shape], one draw from each posterior; None unless draw_seed was given.
        seed: the seed of the draws; None where z is.
        noise_scheme: the rule of the draws, with its version; None where z is.
        served: who answered.
        codes: int64 [n, *latent_shape] of a vector-quantised autoencoder; None of any other model.
    """

    mean: NDArray[np.float32] | None
    log_variance: NDArray[np.float32] | None
    z: NDArray[np.float32] | None
    seed: int | None
    noise_scheme: str | None
    served: Served
    codes: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Pictures):
    """Images of latents, in the order of the latents.

    Attributes:
        images: float32, float16 or uint8 [n, channels, height, width].
        files: the same as n encoded files instead, where a file format was asked for.
        served: who answered.
    """

    served: Served


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction(Pictures):
    """Decoded posterior means, or latents of an autoencoder, and what was lost on the way.

    Attributes:
        images: float32, float16 or uint8 [n, channels, height, width] in the order of the request.
        files: the same as n encoded files instead, where a file format was asked for.
        reconstruction_error: float32 [n], -log p(x|z) at the posterior mean in nats, summed over pixels and channels;
            None where the model has no likelihood.
        kl: float32 [n], KL(q(z|x) || N(0, I)) in nats, summed over latent dimensions; None where the encoder is
            deterministic.
        served: who answered.
    """

    reconstruction_error: NDArray[np.float32] | None
    kl: NDArray[np.float32] | None
    served: Served


@dataclass(frozen=True, slots=True, eq=False)
class Walk(Pictures):
    """Images of points on a way through the latent space.

    Attributes:
        images: float32, float16 or uint8 [n, channels, height, width]. Of an interpolation: all steps of the first
            path, then of the second, and so on. Of a traversal: one a combination of the axes' values, the last axis
            varying fastest.
        files: the same as n encoded files instead, where a file format was asked for.
        latents: float32 [n, *latent_shape], the points that were decoded.
        served: who answered.
    """

    latents: NDArray[np.float32]
    served: Served


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How well a model explains images: float32 [n] each, in nats but for the percentile.

    Attributes:
        reconstruction_error: -log p(x|z), at the posterior mean or averaged over the draws.
        kl: KL(q(z|x) || N(0, I)); None where the encoder is deterministic.
        elbo: -(reconstruction_error + kl), a lower bound on log p(x) in expectation over the draws; None where kl is.
        importance_bound: the tighter bound of Burda et al. 2015; None without draws.
        served: who answered.
        anomaly_percentile: the share, 0 to 100, of ordinary images that are explained no worse by the model than this
            one; None where the model was not calibrated, and with draws.
        map: where the reconstruction error comes from, if that was asked for. Its `images` are float32 or float16
            [n, channels, height, width] in nats, which sum to the error, or uint8 [n, 1, height, width] in grey; its
            `files` are grey pictures. None otherwise.
    """

    reconstruction_error: NDArray[np.float32]
    kl: NDArray[np.float32] | None
    elbo: NDArray[np.float32] | None
    importance_bound: NDArray[np.float32] | None
    served: Served
    anomaly_percentile: NDArray[np.float32] | None = None
    map: Pictures | None = None
