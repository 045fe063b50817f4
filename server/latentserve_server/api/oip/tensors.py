"""The protocol's tensors as arrays, raw or in typed fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.dtypes import GRAPH_TYPES
from latentserve.ndarray import MAX_AXES
from latentserve.oip import inference_pb2 as pb
from latentserve_server.api.bytes_field import before_bytes
from latentserve_server.api.images import check_finite, read_codes, read_range
from latentserve_server.api.oip.parameters import check_input_parameters, check_output_parameters
from latentserve_server.engine import TensorSpec
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.labels import check_known
from latentserve_server.latent.shape import flattened, forms, named
from latentserve_server.model.requests import FLOAT32_PIXELS
from latentserve_server.model.served_model import REPLY_OVERHEAD_BYTES

InputTensor = pb.ModelInferRequest.InferInputTensor
OutputTensor = pb.ModelInferResponse.InferOutputTensor

_DTYPES = {kind.oip: kind.wire_dtype for kind in GRAPH_TYPES.values()}
_TYPED_FIELDS = {kind.oip: kind.oip_field for kind in GRAPH_TYPES.values()}

_RAW_CONTENTS = pb.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number

_LATENTS = ("latent", "codes")
"""Inputs that callers may send in the shape of a latent, or as rows of its values."""

OPTIONAL = ("psi",)
"""Inputs that callers may leave out."""

_LEVELS = np.float32(255)
_MAX_TEXT = 128
_TYPED_BYTES = {np.dtype(np.uint8): 2, np.dtype(np.int64): 10}
"""Elements that are varints, of 7 bits a byte, at most."""


def datatype_of(spec: TensorSpec) -> str:
    """The protocol's name of the element type."""
    return GRAPH_TYPES[spec.dtype].oip


def stated_bytes(request: pb.ModelInferRequest) -> int:
    """What the inputs take by their shapes; nothing is checked yet. To ask for the raw bytes would copy them."""
    tensors = [tensor for tensor in request.inputs if tensor.datatype in _DTYPES]
    return sum(_DTYPES[tensor.datatype].itemsize * math.prod(tensor.shape[:MAX_AXES]) for tensor in tensors)


def read_inputs(
    request: pb.ModelInferRequest, specs: Sequence[TensorSpec], max_rows: int, known: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    """The rows of every input of the model that is not left out, by name, the same number n of each.

    Latents are float32 rows [n, dim], images float32 [n, *spec.shape], both finite, images from 0 to 1; codes are int64
    rows [n, dim] and a label is int64 [n], from 0 to what is `known` of the name, less 1. A psi is float32 [n], finite.

    Raises:
        InvalidArgument: an input is missing, in shared memory, of another shape or datatype than the model's, or over
            `max_rows`; its elements are not as many as its shape says, in none or both of the places for them, or out
            of range; another input is beside them; or they differ in their number of rows.
    """
    found = _find_inputs(request, specs)
    first, *others = (spec for spec in specs if spec.name in found)
    arrays = {spec.name: _read_rows(request, *found[spec.name], spec, max_rows, known) for spec in (first, *others)}
    for spec in others:
        if len(arrays[spec.name]) != len(arrays[first.name]):
            counts = f"{len(arrays[spec.name])} rows where {first.name} has {len(arrays[first.name])}"
            raise InvalidArgument(f"inputs.{spec.name}", counts)
    return arrays


def read_wanted(request: pb.ModelInferRequest, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The outputs that the request names, in its order; all where it names none.

    Raises:
        InvalidArgument: a name is not one of the model's outputs, or is there twice, or is wanted in another form.
    """
    known = {spec.name: spec for spec in specs}
    wanted: dict[str, TensorSpec] = {}
    for output in request.outputs:
        if output.name not in known:
            raise InvalidArgument("outputs", f"{_quote(output.name)} is not one of {', '.join(known)}")
        if output.name in wanted:
            raise InvalidArgument("outputs", f"{output.name!r} is named twice")
        check_output_parameters(f"outputs.{output.name}", output.parameters)
        wanted[output.name] = known[output.name]
    return tuple(wanted.values()) or tuple(specs)


def check_reply_size(rows: int, wanted: Sequence[TensorSpec], max_bytes: int, *, raw: bool) -> None:
    """Hold a reply to the size of a message, before anything is computed.

    Raises:
        InvalidArgument: the outputs of so many rows are too large.
    """
    typed_bytes = {} if raw else _TYPED_BYTES
    row_bytes = sum(math.prod(spec.shape) * typed_bytes.get(spec.dtype, spec.dtype.itemsize) for spec in wanted)
    room = max_bytes - REPLY_OVERHEAD_BYTES
    if rows * row_bytes > room:
        names = ", ".join(spec.name for spec in wanted)
        fitting = f"; {room // row_bytes} rows fit" if room >= row_bytes else ""
        raise InvalidArgument("outputs", f"{rows} rows of {names} are over a message's {max_bytes} bytes{fitting}")


def describe_outputs(response: pb.ModelInferResponse, wanted: Sequence[TensorSpec], rows: int) -> None:
    """Name the wanted outputs in the response, with the datatype and the shape that `rows` rows have."""
    for spec in wanted:
        response.outputs.add(name=spec.name, datatype=datatype_of(spec), shape=(rows, *spec.shape))


def write_typed(
    response: pb.ModelInferResponse, wanted: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Put the elements of the wanted arrays into the typed fields of the response, which names the outputs."""
    for tensor, spec in zip(response.outputs, wanted, strict=True):
        getattr(tensor.contents, _TYPED_FIELDS[tensor.datatype]).extend(arrays[spec.name].ravel().tolist())


def raw_contents(wanted: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The wanted arrays as they lie in a message: little-endian, in C order."""
    return [np.ascontiguousarray(arrays[spec.name], _DTYPES[datatype_of(spec)]) for spec in wanted]


def serialized(head: bytes, request_id: str, contents: Sequence[NDArray[Any]]) -> bytes:
    """The bytes of the response that begins with `head` and has the arrays as its raw contents."""
    parts: list[Any] = [head]
    if request_id:
        parts.append(pb.ModelInferResponse(id=request_id).SerializeToString())
    for array in contents:
        parts += before_bytes(_RAW_CONTENTS, array.nbytes), array.data
    return b"".join(parts)


def _find_inputs(request: pb.ModelInferRequest, specs: Sequence[TensorSpec]) -> dict[str, tuple[int, InputTensor]]:
    """Each spec's tensor and its place among the request's inputs."""
    names = [spec.name for spec in specs]
    found: dict[str, tuple[int, InputTensor]] = {}
    for place, tensor in enumerate(request.inputs):
        if tensor.name not in names:
            known = f"{' and '.join(map(repr, names))} {'is' if len(names) == 1 else 'are'}"
            raise InvalidArgument("inputs", f"{_quote(tensor.name)} is not an input of the model; {known}")
        if tensor.name in found:
            raise InvalidArgument("inputs", f"{tensor.name!r} is there twice")
        found[tensor.name] = place, tensor
    for name in names:
        if name not in found and name not in OPTIONAL:
            raise InvalidArgument("inputs", f"{name!r} is missing")
    return found


def _read_rows(
    request: pb.ModelInferRequest,
    place: int,
    tensor: InputTensor,
    spec: TensorSpec,
    max_rows: int,
    known: Mapping[str, int],
) -> NDArray[Any]:
    field = f"inputs.{spec.name}"
    check_input_parameters(field, tensor.parameters)
    is_image = spec.name == FLOAT32_PIXELS
    allowed = (datatype_of(spec), "UINT8") if is_image else (datatype_of(spec),)
    if tensor.datatype not in allowed:
        raise InvalidArgument(field, f"datatype {_quote(tensor.datatype)} where {allowed[0]} is wanted")
    shape = _read_shape(field, tensor, spec, max_rows)
    array = _read_elements(field, request, place, tensor, math.prod(shape)).reshape(shape)
    if array.dtype == np.uint8:
        return array.astype(np.float32) / _LEVELS
    rows = array.astype(spec.dtype, copy=False)
    if spec.name == "label":
        return check_known(field, rows, known["label"])
    if spec.name == "codes":
        return flattened(read_codes(field, rows, known["codes"]))
    if is_image:
        return read_range(field, rows)
    check_finite(field, rows)
    return flattened(rows) if spec.name in _LATENTS else rows


def _read_shape(field: str, tensor: InputTensor, spec: TensorSpec, max_rows: int) -> tuple[int, ...]:
    shape = tuple(tensor.shape[: MAX_AXES + 1])
    wanted = forms(spec.shape) if spec.name in _LATENTS else (spec.shape,)
    if shape[1:] not in wanted or not shape:
        found = list(shape) if len(shape) <= MAX_AXES else f"of {len(tensor.shape)} axes"
        raise InvalidArgument(field, f"shape {found} where {named(wanted)} is wanted")
    if not 1 <= shape[0] <= max_rows:
        raise InvalidArgument(field, f"{shape[0]} rows; 1 to {max_rows} are allowed")
    return shape


def _read_elements(
    field: str, request: pb.ModelInferRequest, place: int, tensor: InputTensor, count: int
) -> NDArray[Any]:
    """So many elements of the tensor's datatype, from where they lie: raw, at the tensor's place among the inputs."""
    typed = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    raw = request.raw_input_contents
    if raw and typed:
        raise InvalidArgument(field, "has contents beside raw_input_contents; only one of them is allowed")
    if not raw and not typed:
        raise InvalidArgument(field, "has no elements, neither in contents nor in raw_input_contents")
    if not raw:
        return _read_typed(field, tensor, typed, count)
    if len(raw) != len(request.inputs):
        inputs = f"{len(request.inputs)} input{'s' if len(request.inputs) > 1 else ''}"
        raise InvalidArgument("raw_input_contents", f"{len(raw)} entries where the request has {inputs}")
    dtype = _DTYPES[tensor.datatype]
    if len(raw[place]) != count * dtype.itemsize:
        expected = f"{tensor.datatype} of shape {list(tensor.shape)} takes {count * dtype.itemsize}"
        raise InvalidArgument(field, f"raw_input_contents has {len(raw[place])} bytes; {expected}")
    return np.frombuffer(raw[place], dtype)


def _read_typed(field: str, tensor: InputTensor, typed: Sequence[str], count: int) -> NDArray[Any]:
    wanted = _TYPED_FIELDS[tensor.datatype]
    if typed != [wanted]:
        raise InvalidArgument(field, f"elements in {', '.join(typed)} where {tensor.datatype} takes {wanted}")
    elements = getattr(tensor.contents, wanted)
    if len(elements) != count:
        raise InvalidArgument(field, f"{len(elements)} elements; shape {list(tensor.shape)} takes {count}")
    if tensor.datatype != "UINT8":
        return np.fromiter(elements, _DTYPES[tensor.datatype], count)
    values = np.fromiter(elements, np.uint32, count)
    if values.max() > np.iinfo(np.uint8).max:
        raise InvalidArgument(field, f"value {values.max()}; 0 to 255 are UINT8")
    return values.astype(np.uint8)


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…")
