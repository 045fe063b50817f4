"""The rules by which training reads picture files, as the manifest tells servers."""

from __future__ import annotations

from latentserve.v1 import bundle_pb2

READING = bundle_pb2.PictureReading(
    upright=True,
    background=bundle_pb2.Colour(red=0, green=0, blue=0),
    grey=bundle_pb2.GREY_WEIGHTS_REC601,
    fit=bundle_pb2.FIT_STRETCH,
    filter=bundle_pb2.RESIZE_FILTER_LANCZOS,
)
"""The same for all data: images that were never files, such as digits, come as files when the model is served."""
