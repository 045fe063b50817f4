"""Golden rows: what a graph must reproduce before it serves, in batches of many sizes, and the bits it has there."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.fixed_rows import in_runs_of
from latentserve.pixel_range import PixelRangeError, read_pixels
from latentserve.row_bits import TRIAL_BATCHES, TRIAL_ROWS, batch_dependence, more_rows
from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle.bundle import Bundle
from latentserve_server.bundle.manifest import role_name
from latentserve_server.engine import Arrays, Cancellation, Cuda, Device, Engine, Placement
from latentserve_server.engine.device import EngineThread
from latentserve_server.engine.engine import Buffer
from latentserve_server.errors import BundleError, PrecisionShortfall
from latentserve_server.latent.codes import UnknownCode, check_codes

_ROWS_ALONE = 8
"""Golden rows, at most, that run alone."""

_MORE_SECONDS = 5.0
"""What the rows beside the golden ones may take, about: there are fewer of them, or none, where a row takes long."""

_MOST_RUN_SECONDS = 1.0
"""What a run may take that has more rows than one, unless it is chosen by measurements. Rows that take so long gain
nothing from company on the CPU, while the values between the operators of all of them need memory at once."""

_TIMED_RUNS = 3

_TOLERANCE = {Device.CPU: 1e-4, Device.CUDA: 1e-3}
"""Largest difference from a golden float, absolute and relative, and largest share of codes that are others; kernels
differ between processors."""

_TF32_TOLERANCE = 1e-2
"""The same where float32 products are rounded to 10 bits of mantissa."""

LEAST_PSNR_DB = 34.0
"""The least that is demanded, whatever the manifest says: noise of 2 % of the peak."""

MOST_PSNR_DB = 50.0
"""The most that is demanded, where the manifest promises more. Such noise is below one level of 256, and arithmetic in
float16 or TF32, which the CPU that wrote the manifest does not have, may well add as much."""

MARGIN_DB = 1.0
"""Subtracted from what the manifest says of the golden rows. An activation on the edge between two levels falls to
either side by the last bits of float32, which differ between processors."""

OTHER_ROWS_MARGIN_DB = 6.0
"""Subtracted from what the manifest says of other rows, where it says nothing of the golden ones: of a trained VAE, 8
rows were seen to be up to 4.2 dB below the whole."""

_JUDGED = ("image", "latent", "mean", "log_variance")
"""Outputs whose noise is measured in lower precision: the first that a graph has, and a log variance beside a mean."""

FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class GoldenRows:
    """Inputs [rows, ...] of one graph and the float32 model's outputs for them."""

    inputs: Arrays
    outputs: Arrays
    tolerance: float
    fidelity: PsnrDemand | None
    """What is demanded of a graph in lower precision; None in float32, where every single value must agree."""
    known_codes: int = 0
    """Entries of the codebook that codes are indices of."""

    @classmethod
    def of(cls, bundle: Bundle, role: pb.GraphRole, placement: Placement) -> GoldenRows:
        """The golden rows of the bundle's graph of a role, to be reproduced where it is placed."""
        tf32 = isinstance(placement, Cuda) and placement.tf32
        is_exact = bundle.precisions[role] == pb.PRECISION_FLOAT32
        return cls(
            {name: bundle.golden[f"{role_name(role)}.{name}"] for name in bundle.inputs(role)},
            {name: bundle.golden[f"{role_name(role)}.{name}"] for name in bundle.outputs(role)},
            _TF32_TOLERANCE if tf32 else _TOLERANCE[placement.device],
            None if is_exact else PsnrDemand.of(bundle.outputs(role), bundle.entry(role).conversion),
            bundle.manifest.latent.codes,
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(next(iter(self.inputs.values())))

    def repeated(self, rows: int) -> Arrays:
        """Inputs of so many rows: these, over and over again."""
        return _take(self.inputs, rows, 0)

    def check(
        self,
        engine: Engine,
        cancellation: Cancellation,
        rows: int | None = None,
        first: int = 0,
        max_rows: int | None = None,
    ) -> Arrays:
        """Run the rows as they are, or so many of them, from `first` on and over again; returns the outputs.

        They run together, or `max_rows` at a time, where that is less.

        Raises:
            PrecisionShortfall: a graph in lower precision is too far from the golden rows.
            BundleError: an output is not what the golden rows say, or not what it means. EngineFailure: it did not run,
                or was cancelled.
        """
        inputs, outputs = (_take(arrays, rows, first) for arrays in (self.inputs, self.outputs))

        def run(part: Arrays) -> Arrays:
            return engine.run(part, list(outputs), cancellation)

        count = len(next(iter(inputs.values())))
        computed = in_runs_of(max_rows, run, inputs) if max_rows and max_rows < count else run(inputs)
        for name, golden in outputs.items():
            if computed[name].shape != golden.shape:  # onnxruntime lets a graph give another shape than it declares
                shapes = f"{list(computed[name].shape)} where the golden rows are {list(golden.shape)}"
                raise BundleError(f"output {name!r} is {shapes}")
        if self.fidelity is not None:
            self.fidelity.check(computed, outputs, self.outputs)
        else:
            for name, golden in outputs.items():
                if not _agrees(computed[name], golden, self.tolerance, self.outputs[name].size):
                    raise BundleError(f"output {name!r} does not reproduce the golden rows within {self.tolerance}")
        check_outputs(computed, self.known_codes)
        return computed


@dataclass(frozen=True)
class PsnrDemand:
    """What the outputs of one graph must have, in decibels of peak signal to noise, over the golden rows."""

    outputs: tuple[str, ...]
    """Each of them. The peak of an image is 1, that of another tensor its largest absolute value."""
    told_db: float
    """What the manifest says; 0 where it says nothing."""
    demanded_db: float

    @classmethod
    def of(cls, outputs: Iterable[str], conversion: pb.Conversion) -> PsnrDemand:
        """The demand on a graph of these outputs, from what its manifest says of the conversion."""
        judged = tuple(name for name in _JUDGED if name in outputs)
        if not conversion.HasField("golden_psnr_db"):
            return cls(judged[:1], conversion.psnr_db, _demanded(conversion.psnr_db, OTHER_ROWS_MARGIN_DB))
        return cls(judged, conversion.golden_psnr_db, _demanded(conversion.golden_psnr_db, MARGIN_DB))

    def check(self, computed: Arrays, expected: Arrays, golden: Arrays) -> None:
        """Hold computed outputs to those expected: the golden ones, or some of their rows, over and over again.

        Not each value and not each row, but all together. So a few rows may have the noise that is
        allowed to all golden rows together.

        Raises:
            PrecisionShortfall: an output has less than is demanded.
        """
        for name in self.outputs:
            rows, all_rows = len(expected[name]), len(golden[name])
            peak = 1.0 if name == "image" else float(np.abs(golden[name]).max())
            error = float(np.square(computed[name].astype(np.float64) - expected[name]).mean())
            share = math.ceil(rows / all_rows) * all_rows / rows
            if not error / share <= peak**2 * 10 ** (-self.demanded_db / 10):  # a comparison with NaN fails, too
                raise PrecisionShortfall(
                    f"output {name!r} has {_psnr_db(error / share, peak):.2f} dB over the golden rows, where "
                    f"{self.demanded_db:.2f} are demanded and its manifest says {self.told_db:.2f}"
                )


class Invariance:
    """Whether the golden rows of one graph have the same bits in every batch in which they ran."""

    def __init__(self, together: Arrays) -> None:
        """`together` are the outputs of all golden rows in one batch."""
        self.together = together
        self.exception = ""
        """The first batch and output of which a row, golden or not, has other bits; empty where there is none."""

    def compare(self, computed: Arrays, first: int = 0) -> None:
        """Hold another batch to it, which has the golden rows from `first` on, over and over again."""
        for name, together in self.together.items():
            rows = len(computed[name])
            same = together[np.arange(first, first + rows) % len(together)]
            if not self.exception and computed[name].tobytes() != same.tobytes():
                self.exception = f"{name!r} in a batch of {rows}"


def fingerprint(graphs: Mapping[str, Arrays]) -> str:
    """The fingerprint of what the graphs, by name, made of their golden rows: hexadecimal digits.

    SHA-256 over the bytes of every output, little-endian and row after row: the graphs in alphabetical order of their
    names, decoder, encoder and prior, and within each its outputs in that of theirs.
    """
    digest = hashlib.sha256()
    for _, outputs in sorted(graphs.items()):
        for _, output in sorted(outputs.items()):
            digest.update(output.astype(output.dtype.newbyteorder("<"), order="C", copy=False).tobytes())
    return digest.hexdigest()[:FINGERPRINT_DIGITS]


def check_outputs(outputs: Mapping[str, NDArray[Any]], known_codes: int = 0) -> None:
    """Hold the outputs of one run, by name, to their meaning.

    Raises:
        BundleError: a value is not finite, an `image` leaves [0, 1] by more than rounding, an `image_uint8` is over
            one level beside it, or `codes` are not indices of a codebook of `known_codes` entries.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(f"output {name!r} has values that are not finite, on the golden rows")
    if "codes" in outputs:
        try:
            check_codes(outputs["codes"], known_codes)
        except UnknownCode as error:
            raise BundleError(f"output 'codes', on the golden rows: {error}") from error
    image = outputs.get("image")
    if image is None:
        return
    try:
        read_pixels(image)
    except PixelRangeError as error:
        raise BundleError(f"output 'image' has {error}") from error
    if np.abs(outputs["image_uint8"] - 255 * image).max() > 1:
        raise BundleError("output 'image_uint8' is not 255 times 'image', rounded")


def _take(arrays: Arrays, rows: int | None, first: int) -> Arrays:
    if rows is None:
        return arrays
    return {name: array[np.arange(first, first + rows) % len(array)] for name, array in arrays.items()}


def _agrees(computed: NDArray[Any], golden: NDArray[Any], tolerance: float, all_values: int) -> bool:
    """Whether computed values are the golden ones, of which there are `all_values`, or which are some of them again."""
    if golden.dtype == np.uint8:  # a float on the edge between two levels may fall to either side
        return bool(np.abs(computed.astype(int) - golden.astype(int)).max() <= 1)
    if golden.dtype == np.int64:  # a vector half way between two entries of the codebook may fall to either
        allowed = max(1.0, tolerance * all_values) * math.ceil(golden.size / all_values)
        return int(np.count_nonzero(computed != golden)) <= allowed
    return bool(np.allclose(computed, golden, rtol=tolerance, atol=tolerance))


def _demanded(told_db: float, margin_db: float) -> float:
    return max(LEAST_PSNR_DB, min(MOST_PSNR_DB, told_db) - margin_db)


def _psnr_db(error: float, peak: float) -> float:
    return 10 * math.log10(peak**2 / error) if error and peak and math.isfinite(error) else -math.inf


@dataclass(kw_only=True, slots=True)
class GraphTrial:
    """A graph on trial, with what it is tried on. All of it happens on the engine's thread, each run in a slot."""

    engine: Engine
    golden: GoldenRows
    thread: EngineThread
    cancellation: Cancellation
    padded: bool
    """Whether batches are filled up to a power of two rows, or to the most."""
    bound: bool
    """Whether the buffers of padded batches stay on the device."""
    before: tuple[Engine, str, str] | None = None
    """The graph that runs before it, the output that it takes from there, and its input: that stays on the device."""
    row_seconds: float = math.inf
    """What a run of one row takes, once that is known."""

    def affordable_rows(self, max_rows: int) -> int:
        """How many rows a run may have, `max_rows` at most, by what one row takes.

        The fastest of a few runs counts: the first one asks for its memory.

        Raises:
            EngineFailure: it did not run, or was cancelled.
        """
        rows = 0
        for _ in range(_TIMED_RUNS):
            self.row_seconds = min(self.row_seconds, self.seconds(1))
            rows = rows_in_time(self.row_seconds, max_rows)
            if rows == max_rows:
                break
        return rows

    def run(self, max_rows: int) -> Invariance:
        """Run the golden rows together, in batches of many sizes, and alone; then others.

        Raises:
            BundleError: the graph does not reproduce them. EngineFailure: it did not run, or was cancelled.
        """
        with self.thread.slot():
            invariance = Invariance(self.golden.check(self.engine, self.cancellation, max_rows=max_rows))
        self._run_sizes(self._sizes(max_rows), invariance)
        for row in range(1, min(len(self.golden), _ROWS_ALONE) if max_rows > 1 else 0):
            with self.thread.slot():
                invariance.compare(self.golden.check(self.engine, self.cancellation, 1, row), row)
        if not invariance.exception:
            invariance.exception = self._try_more_rows(max_rows)
        return invariance

    def extend(self, tried_rows: int, max_rows: int, invariance: Invariance) -> None:
        """Do for larger batches, up to `max_rows`, what `run` did for those up to `tried_rows`.

        Raises:
            BundleError: the graph does not reproduce them. EngineFailure: it did not run, or was cancelled.
        """
        self._run_sizes([rows for rows in self._sizes(max_rows) if rows > tried_rows], invariance)

    def _run_sizes(self, sizes: Sequence[int], invariance: Invariance) -> None:
        """Run the golden rows over again in a batch of each size."""
        for rows in sizes:
            with self.thread.slot():
                if self.bound:
                    self.engine.bind(rows, self._shared(rows))
                invariance.compare(self.golden.check(self.engine, self.cancellation, rows))

    def _shared(self, rows: int) -> Mapping[str, Buffer]:
        """The buffers of another graph's outputs that are inputs of this one, by their names here."""
        if self.before is None:
            return {}
        engine, output, input_ = self.before
        buffer = engine.resident(output, rows)
        return {input_: buffer} if buffer else {}

    def seconds(self, rows: int) -> float:
        """What a run of so many rows takes.

        Raises:
            EngineFailure: it did not run, or was cancelled.
        """
        inputs = self.golden.repeated(rows)
        with self.thread.slot():
            began = time.perf_counter()
            self.engine.run(inputs, list(self.golden.outputs), self.cancellation)
            return time.perf_counter() - began

    def end(self) -> None:
        """Give back what the trial took of memory."""
        with self.thread.slot():
            self.engine.shrink(self.golden.inputs)

    def _sizes(self, max_rows: int) -> Sequence[int]:
        """Every size that the device is to meet where batches are padded; else the small ones and the largest.

        Where they are not, any size may come. What goes wrong in one of many rows does so in the largest, too, and
        a batch of TRIAL_ROWS is yet to come.
        """
        sizes = buckets(max_rows)
        return sizes if self.padded else [rows for rows in sizes if rows < TRIAL_ROWS or rows == sizes[-1]]

    def _try_more_rows(self, max_rows: int) -> str:
        """Run many more rows than the golden ones; the first batch and output in which one has other bits, or ""."""

        def run(rows: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            with self.thread.slot():
                return self.engine.run(rows, list(self.golden.outputs), self.cancellation)

        rows = min(TRIAL_ROWS, int(_MORE_SECONDS / (len(TRIAL_BATCHES) * self.row_seconds)))
        sizes = {min(size, max_rows, rows) for size in TRIAL_BATCHES}
        if self.padded:  # the device meets no others
            sizes &= set(buckets(max_rows))
        if len(sizes) < 2:
            return ""
        return batch_dependence(
            run, {name: array[:rows] for name, array in more_rows(self.golden.inputs).items()}, sizes
        )


def rows_in_time(row_seconds: float, most: int) -> int:
    """How many rows, `most` at most, a run may have where one takes `row_seconds`."""
    return max(1, min(most, int(_MOST_RUN_SECONDS / row_seconds)))


def buckets(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `max_rows`."""
    return (*(1 << power for power in range((max_rows - 1).bit_length())), max_rows)
