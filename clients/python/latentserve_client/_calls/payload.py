"""Images, latents and points, and the messages that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve import ndarray, pixel_range
from latentserve.contract import CHANNELS, PICTURE_CHANNELS
from latentserve.v1 import generation_pb2, tensor_pb2
from latentserve_client._calls.fields import MAX_SEED, MAX_UINT32, choice, integer
from latentserve_client.errors import ReplyError, RequestError
from latentserve_client.inputs import CodesLike, Format, ImagesLike, LatentsLike, PointsLike, PosteriorMeans, Seeds

_ARRAY_FORMATS: dict[str, generation_pb2.ImageFormat] = {
    "float32": generation_pb2.IMAGE_FORMAT_FLOAT32,
    "float16": generation_pb2.IMAGE_FORMAT_FLOAT16,
    "uint8": generation_pb2.IMAGE_FORMAT_UINT8,
}
_FILE_FORMATS: dict[str, generation_pb2.ImageFormat] = {
    "png": generation_pb2.IMAGE_FORMAT_PNG,
    "jpeg": generation_pb2.IMAGE_FORMAT_JPEG,
    "webp": generation_pb2.IMAGE_FORMAT_WEBP,
}
_LATENTS = "[n, latent_dim] or [n, *latent_shape]"
_AXES_OF_LATENTS = range(2, ndarray.MAX_AXES + 1)
_BAND_COUNTS = "{}, {} or {}".format(*PICTURE_CHANNELS)
_RGBA = 4
_FORMATS = _ARRAY_FORMATS | _FILE_FORMATS
_DTYPES: dict[int, np.dtype[Any]] = {code: np.dtype(name) for name, code in _ARRAY_FORMATS.items()}


def build_output(
    format: Format, grid_columns: int | None, bands: Sequence[int] | None, field: str = "format"
) -> generation_pb2.Output:
    """The form in which images are wanted: each by itself, or as one picture of `grid_columns` columns.

    Pictures show the channels that `bands` names. `field` is where the format is from.
    """
    output = generation_pb2.Output(format=choice(field, format, _FORMATS))
    if bands is not None:
        if format not in _FILE_FORMATS:
            raise RequestError(f"bands are of pictures; format {format!r} is none of {', '.join(_FILE_FORMATS)}")
        output.bands[:] = build_bands(bands, format)
    if grid_columns is not None:
        if format not in _FILE_FORMATS:
            raise RequestError(
                f"grid_columns asks for a picture; format {format!r} is none of {', '.join(_FILE_FORMATS)}"
            )
        output.grid_columns = integer("grid_columns", grid_columns, 1, MAX_UINT32)
    return output


def build_bands(bands: Sequence[int], format: Format) -> list[int]:
    """The channels that a picture of the format is to show."""
    if not isinstance(bands, Sequence | np.ndarray) or isinstance(bands, str | bytes):
        raise RequestError(f"bands is a {type(bands).__name__}; give {_BAND_COUNTS} integers")
    if len(bands) not in PICTURE_CHANNELS:
        raise RequestError(f"bands has {len(bands)} channels; give {_BAND_COUNTS}")
    if len(bands) == _RGBA and format == "jpeg":
        raise RequestError("bands has 4 channels and JPEG no alpha; give 1 or 3, or another format")
    return [integer(f"bands[{place}]", band, 0, CHANNELS[-1] - 1) for place, band in enumerate(bands)]


def build_images(images: ImagesLike, *, resize: bool = False) -> generation_pb2.Images:
    """An array [n, channels, height, width] as a tensor, or a sequence of files unchanged."""
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or 0 in images.shape:
            raise RequestError(
                f"images has shape {list(images.shape)}; it takes [n, channels, height, width], none of them 0"
            )
        if resize:
            raise RequestError("resize is for image files; images is an array")
        return generation_pb2.Images(tensor=ndarray.from_ndarray(_pixels(images)))
    if not isinstance(images, Sequence) or isinstance(images, str | bytes | bytearray | memoryview):
        raise RequestError(f"images is a {type(images).__name__}; give a numpy array or a list of image files")
    if not images:
        raise RequestError("images is empty; give at least one")
    for index, file in enumerate(images):
        if not isinstance(file, bytes):
            raise RequestError(f"images[{index}] is a {type(file).__name__}; give the bytes of an image file")
    return generation_pb2.Images(encoded=generation_pb2.EncodedImages(files=images, resize=resize))


def build_latents(field: str, latents: LatentsLike | CodesLike) -> tensor_pb2.Tensor:
    """An array [n, latent_dim] or [n, *latent_shape] as a float32 tensor."""
    if not isinstance(latents, np.ndarray):
        raise RequestError(f"{field} is a {type(latents).__name__}; give a numpy array {_LATENTS}")
    _check_rows(field, latents)
    return ndarray.from_ndarray(_in_float32(field, latents, ("float32", "float64")))


def build_latents_or_codes(field: str, latents: LatentsLike | CodesLike) -> tensor_pb2.Tensor:
    """An array [n, latent_dim] or [n, *latent_shape] as a float32 tensor or, of signed integers, as one of int64."""
    if isinstance(latents, np.ndarray) and latents.dtype.kind == "i":
        _check_rows(field, latents)
        return ndarray.from_ndarray(latents.astype(np.int64, copy=False))
    return build_latents(field, latents)


def build_points(field: str, points: PointsLike) -> generation_pb2.Points:
    """Points of the latent space: given, drawn or encoded."""
    match points:
        case Seeds(seeds):
            seeds = [integer(f"{field}: seed", seed, 0, MAX_SEED) for seed in seeds]
            if not seeds:
                raise RequestError(f"{field} has no seeds; give at least one")
            return generation_pb2.Points(seeds=generation_pb2.Seeds(seeds=seeds))
        case PosteriorMeans(images, resize):
            return generation_pb2.Points(images=build_images(images, resize=resize))
        case np.ndarray():
            return generation_pb2.Points(latents=build_latents(field, points))
        case _:
            raise RequestError(
                f"{field} is a {type(points).__name__}; give latents {_LATENTS}, Seeds or PosteriorMeans"
            )


def count_points(points: generation_pb2.Points) -> int:
    """The number of points in a message that build_points made."""
    match points.WhichOneof("source"):
        case "latents":
            return points.latents.shape[0]
        case "seeds":
            return len(points.seeds.seeds)
        case _:
            return count_images(points.images)


def count_images(images: generation_pb2.Images) -> int:
    """The number of images in a message; 0 where it has none, or a tensor without axes."""
    if images.WhichOneof("payload") == "tensor":
        return images.tensor.shape[0] if images.tensor.shape else 0
    return len(images.encoded.files)


def parse_images(
    images: generation_pb2.Images, output: generation_pb2.Output, expected: int, field: str = "images"
) -> NDArray[Any] | list[bytes]:
    """The `expected` images of a reply's field, in the form that `output` asked for."""
    dtype = _DTYPES.get(output.format)
    if dtype is not None:
        return _parse_tensor(field, images.tensor, dtype, expected, axes=range(4, 5))
    files = 1 if output.grid_columns else expected
    if len(images.encoded.files) != files:
        raise ReplyError(f"{field}: the reply has {len(images.encoded.files)} files; {files} were asked for")
    return list(images.encoded.files)


def parse_latents(field: str, tensor: tensor_pb2.Tensor, expected: int) -> NDArray[np.float32]:
    """A tensor [expected, *latent_shape] of a reply."""
    return _parse_tensor(field, tensor, np.dtype(np.float32), expected, axes=_AXES_OF_LATENTS)


def parse_codes(field: str, tensor: tensor_pb2.Tensor, expected: int) -> NDArray[np.int64]:
    """A tensor of codes [expected, *latent_shape] of a reply."""
    return _parse_tensor(field, tensor, np.dtype(np.int64), expected, axes=_AXES_OF_LATENTS)


def parse_scores(field: str, scores: Sequence[float], expected: int) -> NDArray[np.float32]:
    """One number an image: float32 [expected]."""
    if len(scores) != expected:
        raise ReplyError(f"{field}: the reply has {len(scores)} values; {expected} were asked for")
    return np.array(scores, dtype=np.float32)


def parse_labels(labels: Sequence[int], expected: int) -> NDArray[np.int64] | None:
    """One label an image: int64 [expected]; None where the model has no labels."""
    if not labels:
        return None
    if len(labels) != expected:
        raise ReplyError(f"labels: the reply has {len(labels)} values; {expected} were asked for")
    return np.array(labels, dtype=np.int64)


def _check_rows(field: str, latents: NDArray[Any]) -> None:
    if latents.ndim not in _AXES_OF_LATENTS or 0 in latents.shape:
        raise RequestError(f"{field} has shape {list(latents.shape)}; it takes {_LATENTS}, none of them 0")


def _pixels(images: NDArray[Any]) -> NDArray[Any]:
    """Images as they are sent: bytes, or floats of the value range. NaN is let through: the server names its row."""
    if images.dtype == np.uint8:
        return images
    pixels = _in_float32("images", images, ("float32", "float64", "float16", "uint8"))
    try:
        return pixel_range.read_pixels(pixels)
    except pixel_range.PixelRangeError as error:
        raise RequestError(f"images has {error}") from error


def _in_float32(field: str, array: NDArray[Any], allowed: tuple[str, ...]) -> NDArray[np.float32]:
    if array.dtype.name not in allowed:
        raise RequestError(f"{field} has dtype {array.dtype.name}; it takes {', '.join(allowed)}")
    with np.errstate(over="ignore"):  # becomes inf, which is refused for what it is
        return array.astype(np.float32, copy=False)


def _parse_tensor(
    field: str, tensor: tensor_pb2.Tensor, dtype: np.dtype[Any], expected: int, axes: range
) -> NDArray[Any]:
    try:
        array = ndarray.to_ndarray(tensor)
    except ndarray.TensorError as error:
        raise ReplyError(f"{field}: {error}") from error
    if array.dtype != dtype or array.ndim not in axes or array.shape[0] != expected:
        wanted = f"{axes[0]} axes" if len(axes) == 1 else f"{axes[0]} axes or more"
        raise ReplyError(
            f"{field}: the reply is {array.dtype.name} {list(array.shape)}; {expected} rows of {dtype.name} in "
            f"{wanted} were asked for"
        )
    return array
