"""Images and latents of messages as arrays, and arrays as images of messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.ndarray import TensorError, from_ndarray, to_ndarray
from latentserve.pixel_range import PixelRangeError, read_pixels
from latentserve.v1 import bundle_pb2, generation_pb2, tensor_pb2
from latentserve_server.api.image_files import (
    FILE_FORMATS,
    LEVELS,
    check_channels,
    count_pixels,
    read_file,
    tile,
    write_file,
)
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.codes import UnknownCode, check_codes
from latentserve_server.latent.shape import flattened, forms, named
from latentserve_server.model.served_model import ServedModel
from latentserve_server.workers import Workers

_MAX_RESIZED_PIXELS = 1 << 28
"""Pixels of the files of one Images that are to be resized, at most: some seconds of one thread."""

_CHUNK_PIXELS = 1 << 20
"""Pixels of the files that are done in one chunk, about: some 10 ms of a thread; a larger file is a chunk by itself."""
_FILE_PIXELS = 1 << 12
"""What a file takes beyond its pixels, as pixels that take as long."""

Float32 = NDArray[np.float32]


def read_array(field: str, tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """The tensor's array.

    Raises:
        InvalidArgument: dtype, shape and data do not fit together.
    """
    try:
        return to_ndarray(tensor)
    except TensorError as error:
        raise InvalidArgument(field, str(error)) from error


def check_latents(field: str, tensor: tensor_pb2.Tensor, model: ServedModel) -> int:
    """How many latents a tensor has by its shape.

    Raises:
        InvalidArgument: there are none, or more than a call may have.
    """
    if not _has_rows(tensor):
        _read_latents(field, tensor, model)  # which says what is wrong
    model.check_rows(field, tensor.shape[0])
    return tensor.shape[0]


def check_images(field: str, images: generation_pb2.Images, model: ServedModel) -> int:
    """How many images there are, of which none is unpacked.

    Raises:
        InvalidArgument: there are none, or more than a call may have; or they are files, and the model's images are
            none that a file shows.
    """
    match images.WhichOneof("payload"):
        case "tensor":
            tensor = images.tensor
            if not _has_rows(tensor):
                _read_tensor(f"{field}.tensor", tensor, model.manifest.image)  # which says what is wrong
            model.check_rows(field, tensor.shape[0])
            return tensor.shape[0]
        case "encoded":
            check_channels(f"{field}.encoded", model.image.channels)
            count, most = len(images.encoded.files), model.limits.max_rows_per_request
            if not 1 <= count <= most:
                raise InvalidArgument(f"{field}.encoded.files", f"{count} files; 1 to {most} are allowed")
            return count
        case _:
            raise InvalidArgument(field, "neither tensor nor encoded is set")


async def read_latents(field: str, tensor: tensor_pb2.Tensor, model: ServedModel, workers: Workers) -> NDArray[Any]:
    """Latents or codes of a model's shape, or rows of their values, as rows [n, dim].

    Latents are float32 and all finite, codes int64 and all in the codebook.

    Raises:
        InvalidArgument: they are anything else.
    """
    return await workers.run(_size_bytes(tensor), _read_latents, field, tensor, model)


async def read_images(
    field: str, images: generation_pb2.Images, spec: bundle_pb2.ImageSpec, workers: Workers
) -> Float32:
    """Images that `check_images` lets pass, as float32 [n, channels, height, width] from 0 to 1.

    Files are unpacked some at a time.

    Raises:
        InvalidArgument: they are malformed, of another size than the model's, or out of range.
    """
    if images.WhichOneof("payload") == "encoded":
        return await _read_files(f"{field}.encoded.files", images.encoded, spec, workers)
    tensor = images.tensor
    return await workers.run(_size_bytes(tensor), _read_tensor, f"{field}.tensor", tensor, spec)


async def write_images(images: NDArray[Any], output: generation_pb2.Output, workers: Workers) -> generation_pb2.Images:
    """Images [n, channels, height, width] for the wire: a tensor, or uint8 images as files, or as one of a grid.

    Files are packed a few at a chunk, and show the bands that are named, if any.
    """
    if output.format not in FILE_FORMATS:
        half = output.format == generation_pb2.IMAGE_FORMAT_FLOAT16
        tensor = await workers.run(images.nbytes, _write_tensor, images, np.float16 if half else images.dtype)
        return generation_pb2.Images(tensor=tensor)
    bands = list(output.bands)
    if output.grid_columns:
        parts = [partial(_write_grid, images, bands, output.grid_columns, output.format)]
    else:
        chunks = _chunks([images[0, 0].size] * len(images))
        parts = [partial(_write_files, images[chunk], bands, output.format) for chunk in chunks]
    files = chain.from_iterable(await workers.run_each(parts))
    return generation_pb2.Images(encoded=generation_pb2.EncodedImages(files=files))


def _has_rows(tensor: tensor_pb2.Tensor) -> bool:
    """Whether the shape says how many rows there are."""
    return len(tensor.shape) > 0 and tensor.shape[0] >= 0


def _size_bytes(tensor: tensor_pb2.Tensor) -> int:
    """How much there is to read. `ByteSize` would say so, too, but takes as long as to serialise the message."""
    return len(tensor.data) + 8 * len(tensor.shape)


def _read_latents(field: str, tensor: tensor_pb2.Tensor, model: ServedModel) -> NDArray[Any]:
    latents, wanted, codes = read_array(field, tensor), forms(model.latent_shape), model.manifest.latent.codes
    dtype = np.dtype(np.int64 if codes else np.float32)
    if latents.dtype != dtype or latents.shape[1:] not in wanted:
        raise InvalidArgument(field, f"{_describe(latents)} where {dtype.name} {named(wanted)} is wanted")
    if codes:
        read_codes(field, latents, codes)
    else:
        check_finite(field, latents)
    return flattened(latents)


def _read_tensor(field: str, tensor: tensor_pb2.Tensor, spec: bundle_pb2.ImageSpec) -> NDArray[np.float32]:
    array = read_array(field, tensor)
    shape = (spec.channels, spec.height, spec.width)
    if array.shape[1:] != shape or array.ndim != 4:
        raise InvalidArgument(field, f"{_describe(array)} where [n, {', '.join(map(str, shape))}] is wanted")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / LEVELS
    if array.dtype not in (np.float32, np.float16):
        raise InvalidArgument(field, f"{_describe(array)}; float32, float16 and uint8 are allowed")
    return read_range(field, array.astype(np.float32, copy=False))


async def _read_files(
    field: str, encoded: generation_pb2.EncodedImages, spec: bundle_pb2.ImageSpec, workers: Workers
) -> Float32:
    files, resize = encoded.files, encoded.resize
    pixels = [spec.width * spec.height] * len(files)
    if resize:
        counts = (partial(_count_pixels, field, files, chunk, spec) for chunk in _chunks([0] * len(files)))
        pixels = list(chain.from_iterable(await workers.run_each(counts)))
        if sum(pixels) > _MAX_RESIZED_PIXELS:
            found = f"{sum(pixels)} pixels in {len(files)} files that are to be resized"
            raise InvalidArgument(field, f"{found}; {_MAX_RESIZED_PIXELS} in all are allowed")
    images = np.empty((len(files), spec.channels, spec.height, spec.width), np.float32)
    await workers.run_each(
        partial(_unpack, field, files, chunk, spec, images, resize=resize) for chunk in _chunks(pixels)
    )
    return images


def _chunks(pixels: Sequence[int]) -> Iterator[slice]:
    """Files of so many pixels each, cut into chunks: as many files as take about as long as a chunk, at least one."""
    start, work = 0, 0
    for position, size in enumerate(pixels):
        if work and work + size > _CHUNK_PIXELS:
            yield slice(start, position)
            start, work = position, 0
        work += size + _FILE_PIXELS
    yield slice(start, len(pixels))


def _count_pixels(field: str, files: Sequence[bytes], chunk: slice, spec: bundle_pb2.ImageSpec) -> list[int]:
    return [
        count_pixels(f"{field}[{i}]", data, spec, resize=True) for i, data in enumerate(files[chunk], start=chunk.start)
    ]


def _unpack(
    field: str, files: Sequence[bytes], chunk: slice, spec: bundle_pb2.ImageSpec, images: Float32, *, resize: bool
) -> None:
    """Read the files of a chunk into their rows of the images."""
    for i, data in enumerate(files[chunk], start=chunk.start):
        images[i] = read_file(f"{field}[{i}]", data, spec, resize=resize)


def _write_tensor(images: NDArray[Any], dtype: Any) -> tensor_pb2.Tensor:
    return from_ndarray(images.astype(dtype, copy=False))


def _write_files(images: NDArray[np.uint8], bands: Sequence[int], file_format: int) -> list[bytes]:
    return [write_file(image, file_format) for image in _shown(images, bands)]


def _write_grid(images: NDArray[np.uint8], bands: Sequence[int], columns: int, file_format: int) -> list[bytes]:
    return [write_file(tile(_shown(images, bands), columns), file_format)]


def _shown(images: NDArray[np.uint8], bands: Sequence[int]) -> NDArray[np.uint8]:
    """The channels of the images that pictures show: those that are named, or all."""
    return images[:, bands] if bands else images


def check_finite(field: str, array: NDArray[np.float32]) -> None:
    """Refuse rows with infinities and NaN.

    Raises:
        InvalidArgument: there is one; names the first row.
    """
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InvalidArgument(field, f"row {row} holds a value that is not finite")


def read_codes(field: str, rows: NDArray[np.int64], known: int) -> NDArray[np.int64]:
    """Rows of codes that are all in a codebook of `known` entries.

    Raises:
        InvalidArgument: one is not; names the first row, and the code.
    """
    try:
        check_codes(rows, known)
    except UnknownCode as error:
        raise InvalidArgument(field, str(error)) from error
    return rows


def read_range(field: str, pixels: Float32) -> Float32:
    """Pixels from 0 to 1, the range of every bundle that is served; what rounding brought beyond a bound lies on it.

    Raises:
        InvalidArgument: one is not finite, or further outside.
    """
    check_finite(field, pixels)
    try:
        return read_pixels(pixels)
    except PixelRangeError as error:
        raise InvalidArgument(field, str(error)) from error


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype.name} {list(array.shape)}"
