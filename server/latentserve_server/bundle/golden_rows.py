"""Golden rows: outputs that a graph must reproduce before it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.pixel_range import PixelRangeError, read_pixels
from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle.bundle import Bundle, role_name
from latentserve_server.bundle.psnr_demand import PsnrDemand
from latentserve_server.engine import Arrays, Cuda, Device, Engine, Placement
from latentserve_server.engine.cancellation import Cancellation
from latentserve_server.errors import BundleError

_TOLERANCE = {Device.CPU: 1e-4, Device.CUDA: 1e-3}
"""Largest difference from a golden float, absolute and relative; kernels differ between processors."""

_TF32_TOLERANCE = 1e-2
"""The same where float32 products are rounded to 10 bits of mantissa."""


@dataclass(frozen=True)
class GoldenRows:
    """Inputs [rows, ...] of one graph and the float32 model's outputs for them."""

    inputs: Arrays
    outputs: Arrays
    tolerance: float
    fidelity: PsnrDemand | None
    """What is demanded of a graph in lower precision; None in float32, where every single value must agree."""

    @classmethod
    def of(cls, bundle: Bundle, role: pb.GraphRole, placement: Placement) -> GoldenRows:
        """The golden rows of the bundle's graph of a role, to be reproduced where it is placed."""
        tf32 = isinstance(placement, Cuda) and placement.tf32
        is_exact = bundle.precisions[role] == pb.PRECISION_FLOAT32
        return cls(
            {name: bundle.golden[f"{role_name(role)}.{name}"] for name in bundle.inputs(role)},
            {name: bundle.golden[f"{role_name(role)}.{name}"] for name in bundle.outputs(role)},
            _TF32_TOLERANCE if tf32 else _TOLERANCE[placement.device],
            None if is_exact else PsnrDemand.of(role, bundle.entry(role).conversion),
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(next(iter(self.inputs.values())))

    def check(self, engine: Engine, cancellation: Cancellation, rows: int | None = None, first: int = 0) -> Arrays:
        """Run the rows as they are, or so many of them, from `first` on and over again; returns the outputs.

        Raises:
            PrecisionShortfall: a graph in lower precision is too far from the golden rows.
            BundleError: an output is not what the golden rows say, or not what it means. EngineFailure: it did not run,
                or was cancelled.
        """
        inputs, outputs = (_take(arrays, rows, first) for arrays in (self.inputs, self.outputs))
        computed = engine.run(inputs, list(outputs), cancellation)
        for name, golden in outputs.items():
            if computed[name].shape != golden.shape:  # onnxruntime lets a graph give another shape than it declares
                shapes = f"{list(computed[name].shape)} where the golden rows are {list(golden.shape)}"
                raise BundleError(f"output {name!r} is {shapes}")
        if self.fidelity is not None:
            self.fidelity.check(computed, outputs, self.outputs)
        else:
            for name, golden in outputs.items():
                if not _agrees(computed[name], golden, self.tolerance):
                    raise BundleError(f"output {name!r} does not reproduce the golden rows within {self.tolerance}")
        check_outputs(computed)
        return computed


def _take(arrays: Arrays, rows: int | None, first: int) -> Arrays:
    if rows is None:
        return arrays
    return {name: array[np.arange(first, first + rows) % len(array)] for name, array in arrays.items()}


def _agrees(computed: NDArray[Any], golden: NDArray[Any], tolerance: float) -> bool:
    if golden.dtype == np.uint8:  # a float on the edge between two levels may fall to either side
        return bool(np.abs(computed.astype(int) - golden.astype(int)).max() <= 1)
    return bool(np.allclose(computed, golden, rtol=tolerance, atol=tolerance))


def check_outputs(outputs: Mapping[str, NDArray[Any]]) -> None:
    """Hold the outputs of one run, by name, to their meaning.

    Raises:
        BundleError: a value is not finite, an `image` leaves [0, 1] by more than rounding, or an `image_uint8` is over
            one level beside it.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(f"output {name!r} has values that are not finite, on the golden rows")
    image = outputs.get("image")
    if image is None:
        return
    try:
        read_pixels(image)
    except PixelRangeError as error:
        raise BundleError(f"output 'image' has {error}") from error
    if np.abs(outputs["image_uint8"] - 255 * image).max() > 1:
        raise BundleError("output 'image_uint8' is not 255 times 'image', rounded")
