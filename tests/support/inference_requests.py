"""Requests of the Open Inference Protocol for arrays, and the arrays of its responses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from running_server import RunningServer

from latentserve.oip import inference_pb2 as pb
from latentserve.oip import inference_pb2_grpc

_DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.uint8): "UINT8", np.dtype(np.int64): "INT64"}
_DTYPES = {name: dtype for dtype, name in _DATATYPES.items()}
_FIELDS = {"FP32": "fp32_contents", "UINT8": "uint_contents", "INT64": "int64_contents"}


def stub_of(served: RunningServer) -> inference_pb2_grpc.GRPCInferenceServiceStub:
    """The stub that calls the server."""
    return inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)


def infer_request(
    model: str, name: str, array: NDArray[Any], *outputs: str, raw: bool = True, **fields: Any
) -> pb.ModelInferRequest:
    """A request with one input, as raw bytes or in its typed field, that asks for the outputs."""
    request = pb.ModelInferRequest(model_name=model, **fields)
    for output in outputs:
        request.outputs.add(name=output)
    return add_input(request, name, array, raw=raw)


def add_input(
    request: pb.ModelInferRequest, name: str, array: NDArray[Any], *, raw: bool = True
) -> pb.ModelInferRequest:
    """The request with one more input, as raw bytes or in its typed field."""
    datatype = _DATATYPES[array.dtype]
    tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    if raw:
        request.raw_input_contents.append(array.tobytes())
    else:
        getattr(tensor.contents, _FIELDS[datatype]).extend(array.ravel().tolist())
    return request


def arrays_of(response: pb.ModelInferResponse) -> dict[str, NDArray[Any]]:
    """The outputs by name, in the response's order; all raw, or all in their typed fields."""
    arrays = {}
    for position, tensor in enumerate(response.outputs):
        dtype = _DTYPES[tensor.datatype]
        if response.raw_output_contents:
            assert not tensor.HasField("contents")
            flat = np.frombuffer(response.raw_output_contents[position], dtype)
        else:
            flat = np.array(getattr(tensor.contents, _FIELDS[tensor.datatype]), dtype)
        arrays[tensor.name] = flat.reshape(tuple(tensor.shape))
    return arrays
