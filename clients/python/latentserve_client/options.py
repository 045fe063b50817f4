"""What calls may be told besides what they work on, as types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from latentserve_client.inputs import PointsLike

ArrayFormat: TypeAlias = Literal["float32", "float16", "uint8"]
FileFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Format: TypeAlias = ArrayFormat | FileFormat
"""How images come back: as one array [n, channels, height, width], float in the model's value range or uint8 from 0 to
255; or as files, one an image: PNG, JPEG at quality 90, or lossless WebP."""

Priority: TypeAlias = Literal["interactive", "bulk"]
"""Who may wait for whom: "bulk" has the batches that no "interactive" call is in, and a quarter of every other."""

Prior: TypeAlias = Literal["standard_normal", "mixture"]
"""What samples are drawn from: the standard normal prior, or a mixture fitted on the encoded training images."""

LabelsLike: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]]
"""Labels of a conditional model, from 0: one for all rows, or one for each. Of samples: any number, given to indices in
turn."""

ImageArray: TypeAlias = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8]
Pictures: TypeAlias = ImageArray | list[bytes]
"""Images that came back, in one of the formats."""
ImagesT = TypeVar("ImagesT", bound=Pictures, covariant=True)


class CallOptions(TypedDict, total=False):
    """What every call takes besides its own arguments.

    Attributes:
        timeout: seconds that this call may take, retries included, instead of the client's own. For a stream, seconds
            that may pass until the next chunk is there.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.
    """

    timeout: float | None
    request_id: str | None


class GenerationOptions(CallOptions, total=False):
    """What every call takes that runs a model.

    Attributes:
        priority: None leaves it to the server: "bulk" for streams, "interactive" for all else.
        labels: for a conditional model, which demands them but of samples, for which None is every label in turn.
    """

    priority: Priority | None
    labels: LabelsLike | None


class SampleOptions(GenerationOptions, total=False):
    """What calls take that draw from the prior.

    Attributes:
        seed: any uint64; same seed, same images. The client draws one unless given.
        first_index: the index of the first row within the seed's sequence.
        temperature: 0 to 4, times the noise; 0 gives the prior's mean. 1 unless given.
        truncation: 0.5 to 8, where the noise is cut off in standard deviations. Not cut off unless given.
        prior: what to draw from; the model's default, the standard normal prior, unless given.
    """

    seed: int | None
    first_index: int
    temperature: float | None
    truncation: float | None
    prior: Prior | None


class StreamOptions(SampleOptions, total=False):
    """What streams of samples take.

    Attributes:
        chunk_rows: images in a chunk; the server chooses unless given.
        any_numerics: whether a stream that was cut off may go on where other last bits are computed. Unless it may,
            another server is looked for, and where there is none the stream ends with a NumericsError.
    """

    chunk_rows: int | None
    any_numerics: bool


class ImageOptions(GenerationOptions, total=False):
    """What calls take that are given images.

    Attributes:
        resize: whether image files of any size are brought to the model's, as its manifest says.
    """

    resize: bool


class EncodeOptions(ImageOptions, total=False):
    """What encoding takes.

    Attributes:
        draw_seed: any uint64; also draws a latent from each posterior. None is drawn unless given.
        first_index: the index of the first row's noise within the seed's sequence.
    """

    draw_seed: int | None
    first_index: int


class ScoreOptions(ImageOptions, total=False):
    """What scoring takes.

    Attributes:
        draws: latents drawn from each image's posterior; 0, unless given, takes its mean.
        seed: any uint64, of the draws; 0 unless given.
        first_index: the first image's index, which the noise of its draws follows.
    """

    draws: int
    seed: int | None
    first_index: int


class InterpolateOptions(GenerationOptions, total=False):
    """What interpolating takes.

    Attributes:
        spherical: whether to turn from start to end at constant speed, instead of going straight.
    """

    spherical: bool


class TraverseOptions(GenerationOptions, total=False):
    """What traversing takes.

    Attributes:
        origin: one point, whose other dimensions are kept; the prior's mean, 0, unless given.
    """

    origin: PointsLike | None
