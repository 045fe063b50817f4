"""The precisions that a graph may compute in, by their names in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from latentserve.v1 import bundle_pb2 as pb

PrecisionName = Literal["float32", "float16", "int8"]

_PRECISIONS: Mapping[PrecisionName, pb.Precision] = {
    "float32": pb.PRECISION_FLOAT32,
    "float16": pb.PRECISION_FLOAT16,
    "int8": pb.PRECISION_INT8,
}


def precision_of(name: PrecisionName) -> pb.Precision:
    """The precision of a name."""
    return _PRECISIONS[name]


def precision_name(precision: pb.Precision) -> str:
    """The name of a precision."""
    return pb.Precision.Name(precision).removeprefix("PRECISION_").lower()
