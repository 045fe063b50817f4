"""float16 and int8 graphs, kept only where they measure close enough to float32."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2
from latentserve_training.errors import ExportError
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.onnx_model import strip
from latentserve_training.export.parity import largest_difference
from latentserve_training.export.plan import Arrays, GraphPlan
from latentserve_training.export.precision_data import ConversionData, FidReference, LikelihoodReference
from latentserve_training.export.publish import GOLDEN_ROWS, describe_graph
from latentserve_training.export.quantization import WEIGHT_BITS, float16, int8, int8_forms
from latentserve_training.export.request import PrecisionName
from latentserve_training.export.sessions import open_session, run_in_batches
from latentserve_training.number_text import apart

MIN_PSNR_DB = 40.0
MIN_GOLDEN_PSNR_DB = 35.0
"""Only for the golden rows, which are few: a server demands 1 dB less than was reached, and of any graph 34."""
MAX_FID_SHIFT = 0.05
MAX_NLL_SHIFT = 0.05
"""The mean change of images' nats, as a fraction of their standard deviation."""
_WATCHED_ROWS = 64
_TIMED_ROWS = 64
_TIMED_ROUNDS = 30
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)
_PRECISIONS = {"float16": bundle_pb2.PRECISION_FLOAT16, "int8": bundle_pb2.PRECISION_INT8}


class QualityGateError(ExportError):
    """A graph in lower precision that lost too much; the message says in which measure."""


def convert(plan: GraphPlan, source: Path, precision: PrecisionName, data: ConversionData) -> bundle_pb2.Graph:
    """Write the float32 graph in `source` in lower precision beside it; returns its entry.

    Among the forms of int8, the first that is good enough is kept.

    Raises:
        QualityGateError: no form is good enough; no file is left.
    """
    target = source.with_name(f"{plan.role}.{precision}.onnx")
    complaints = []
    exact = onnx.load(source)
    if precision == "float16":
        _require_room(plan.role, exact, data.held_out)
    for form, model in _forms(exact, precision, data):
        strip(model)
        onnx.save(model, target)
        try:
            check_graph(target, plan)
            conversion = _measure(plan, source, target, data, with_distance=precision == "int8")
        except ExportError as error:
            target.unlink()
            complaints.append(f"{form}: {error}")
            continue
        graph = describe_graph(plan.role, target, _largest_difference(plan, target))
        graph.precision = _PRECISIONS[precision]
        graph.conversion.CopyFrom(conversion)
        if precision == "int8":
            graph.conversion.weight_bits = WEIGHT_BITS
        return graph
    raise QualityGateError(f"{plan.role} in {precision} is left out ({'; '.join(complaints)})")


def _require_room(role: str, model: onnx.ModelProto, inputs: Arrays) -> None:
    """Refuse a graph with values beyond float16's.

    Only a device with float16 arithmetic would show them: a CPU computes such graphs in float32.
    """
    outputs = {value.name for value in model.graph.output}
    inner = [name for node in model.graph.node for name in node.output if name and name not in outputs]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = open_session(watched.SerializeToString())
    for start in range(0, len(next(iter(inputs.values()))), _WATCHED_ROWS):
        found = session.run(inner, {key: rows[start : start + _WATCHED_ROWS] for key, rows in inputs.items()})
        for name, values in zip(inner, found, strict=True):
            largest = np.abs(values).max(initial=0) if np.issubdtype(values.dtype, np.floating) else 0
            if not largest <= _LARGEST_FLOAT16:
                reached, most = apart(largest, _LARGEST_FLOAT16, 5)
                raise QualityGateError(f"{role} in float16 is left out: {name!r} reaches {reached} of at most {most}")


def _forms(
    model: onnx.ModelProto, precision: PrecisionName, data: ConversionData
) -> Iterator[tuple[str, onnx.ModelProto]]:
    if precision == "float16":
        yield "all layers", float16(model)
        return
    for form, kept in int8_forms(model).items():
        yield form, int8(model, data.calibration, kept)


def _measure(
    plan: GraphPlan, source: Path, target: Path, data: ConversionData, *, with_distance: bool
) -> bundle_pb2.Conversion:
    exact, converted = (open_session(path.read_bytes()) for path in (source, target))
    judged = plan.outputs[:1] if plan.role == "decoder" else plan.outputs
    psnr = {
        name: _psnr(plan, run_in_batches(converted, name, data.held_out), run_in_batches(exact, name, data.held_out))
        for name in judged
    }
    for name, decibels in psnr.items():
        if not decibels >= MIN_PSNR_DB:
            found, least = apart(decibels, MIN_PSNR_DB)
            raise QualityGateError(f"{name!r} has {found} dB against float32; at least {least} are demanded")
    name = plan.outputs[0]
    conversion = bundle_pb2.Conversion(
        psnr_db=psnr[name],
        speedup=_speedup(exact, converted, name, data.held_out),
        golden_psnr_db=_golden_psnr(plan, converted, judged),
    )
    if data.likelihood_reference is not None:
        conversion.nll_shift_nats = _nll_shift(exact, converted, data.likelihood_reference)
    if with_distance and data.fid_reference is not None:
        conversion.fid_shift = _fid_shift(exact, converted, data.fid_reference)
    return conversion


def _golden_psnr(plan: GraphPlan, converted: onnxruntime.InferenceSession, judged: Sequence[str]) -> float:
    """The least of the judged outputs' PSNR over the golden rows, as a server measures it."""
    inputs = plan.rows(0, GOLDEN_ROWS)
    golden = {name: array[:GOLDEN_ROWS] for name, array in plan.expected.items()}
    decibels = min(_psnr(plan, run_in_batches(converted, name, inputs), golden[name]) for name in judged)
    if not decibels >= MIN_GOLDEN_PSNR_DB:
        raise QualityGateError(
            f"the golden rows have {decibels:.1f} dB against float32; at least {MIN_GOLDEN_PSNR_DB:g} are demanded"
        )
    return decibels


def _nll_shift(
    exact: onnxruntime.InferenceSession, converted: onnxruntime.InferenceSession, reference: LikelihoodReference
) -> float:
    """The mean change in nats, which may be only a small part of their spread, since images are ranked by them."""
    before, after = (reference.nll(session) for session in (exact, converted))
    moved, allowed = (after - before).abs().mean().item(), MAX_NLL_SHIFT * before.std().item()
    if not moved <= allowed:
        shift, most = apart(moved, allowed)
        raise QualityGateError(f"the nats of images move by {shift} on average; {most} are allowed")
    return (after - before).mean().item()


def _fid_shift(
    exact: onnxruntime.InferenceSession, converted: onnxruntime.InferenceSession, reference: FidReference
) -> float:
    before, after = (
        reference.distance(run_in_batches(session, "image_uint8", reference.samples).astype(np.uint8))
        for session in (exact, converted)
    )
    shift = (after - before) / before
    if not abs(shift) <= MAX_FID_SHIFT:
        moved, most = apart(100 * abs(shift), 100 * MAX_FID_SHIFT)
        raise QualityGateError(
            f"the samples' FID moves by {moved} %, from {before:.4g} to {after:.4g}; {most} % are allowed"
        )
    return shift


def _psnr(plan: GraphPlan, found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """The peak of an image is 1; that of a posterior's tensor its largest absolute value."""
    return psnr_db(found, expected, peak=1.0 if plan.role == "decoder" else float(np.abs(expected).max()))


def psnr_db(found: NDArray[np.generic], expected: NDArray[np.generic], peak: float) -> float:
    """Peak signal-to-noise ratio in decibels: 10 log10(peak^2 / mean squared difference).

    Equal arrays have 200 dB, more than float32 can tell; others minus infinity where the peak is 0, or where values are
    no finite numbers.
    """
    with np.errstate(invalid="ignore"):
        error = float(np.square(found.astype(np.float64) - expected.astype(np.float64)).mean())
    if error == 0:
        return 200.0
    if not math.isfinite(error) or peak == 0:
        return -math.inf
    return min(200.0, 10 * math.log10(peak**2 / error))


def _speedup(
    exact: onnxruntime.InferenceSession, converted: onnxruntime.InferenceSession, name: str, inputs: Arrays
) -> float:
    """The first session's median time for 64 rows over the second's, measured alternately under the same load."""
    batch = {key: rows[:_TIMED_ROWS] for key, rows in inputs.items()}
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED_ROUNDS):
        for session, column in zip((exact, converted), seconds, strict=True):
            start = time.perf_counter()
            session.run([name], batch)
            column.append(time.perf_counter() - start)
    first, second = (float(np.median(column)) for column in seconds)
    return first / second


def _largest_difference(plan: GraphPlan, target: Path) -> float:
    """The largest absolute difference of a float output from the model's, over the example."""
    session = open_session(target.read_bytes())
    floats = [name for name in plan.outputs if name != "image_uint8"]
    found = dict(zip(floats, session.run(floats, plan.example), strict=True))
    return max(largest_difference(found[name], plan.expected[name]) for name in floats)
