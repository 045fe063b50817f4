"""The form in which images are wanted, held to what can be made of the model's."""

from __future__ import annotations

from latentserve.contract import PICTURE_CHANNELS
from latentserve.v1 import bundle_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.api.image_files import CHANNEL_NUMBERS, FILE_FORMATS, GAP, MAX_SIDE
from latentserve_server.errors import InvalidArgument
from latentserve_server.model.requests import FLOAT32_PIXELS, UINT8_PIXELS

_FORMATS = frozenset(pb.ImageFormat.values())
_FLOAT_FORMATS = (pb.IMAGE_FORMAT_UNSPECIFIED, pb.IMAGE_FORMAT_FLOAT32, pb.IMAGE_FORMAT_FLOAT16)
_JPEG_CHANNELS = 3


def check_output(output: pb.Output, rows: int, spec: bundle_pb2.ImageSpec) -> None:
    """Hold the wanted form of `rows` images to what can be made. With no rows every size passes; the model checks
    their number.

    Raises:
        InvalidArgument: the format is unknown, or shows other channels than pictures do; bands are none of the model's,
            or a grid is too large; or one of these is not of files.
    """
    wanted = output.format
    if wanted not in _FORMATS:
        known = ", ".join(pb.ImageFormat.keys())
        raise InvalidArgument("output.format", f"{wanted} is not one of {known}")
    is_file = wanted in FILE_FORMATS
    if is_file or output.bands:
        _check_bands(output, spec.channels)
    if not output.grid_columns or not rows:
        return
    if not is_file:
        raise InvalidArgument("output.grid_columns", "a grid is a picture: the format must be PNG, JPEG or WebP")
    columns = min(output.grid_columns, rows)
    width, height = columns * (spec.width + GAP), -(-rows // columns) * (spec.height + GAP)
    if max(width, height) > MAX_SIDE:
        raise InvalidArgument("output.grid_columns", f"{width}x{height} pixels; {MAX_SIDE} a side are allowed")


def _check_bands(output: pb.Output, channels: int) -> None:
    """Hold a picture's channels to those that its format holds, and bands to a picture, and to the model's channels."""
    bands = output.bands
    if bands and output.format not in FILE_FORMATS:
        raise InvalidArgument("output.bands", "are of pictures: the format must be PNG, JPEG or WebP")
    if bands and len(bands) not in PICTURE_CHANNELS:
        raise InvalidArgument("output.bands", f"{len(bands)} bands; {CHANNEL_NUMBERS} are allowed")
    for place, band in enumerate(bands):
        if band >= channels:
            raise InvalidArgument(f"output.bands[{place}]", f"{band}; 0 to {channels - 1} are allowed")
    shown = len(bands) or channels
    if shown not in PICTURE_CHANNELS:
        problem = f"files hold {CHANNEL_NUMBERS} channels and the model's images {channels}"
        raise InvalidArgument("output.format", f"{problem}; name some in output.bands, or ask for a tensor")
    if shown > _JPEG_CHANNELS and output.format == pb.IMAGE_FORMAT_JPEG:
        raise InvalidArgument("output.format", "JPEG has no alpha; name 1 or 3 output.bands, or ask for PNG or WebP")


def form_of(output: pb.Output) -> str:
    """The decoder's output that has the wanted form, or what is made into it."""
    return FLOAT32_PIXELS if output.format in _FLOAT_FORMATS else UINT8_PIXELS
