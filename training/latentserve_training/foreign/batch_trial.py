"""A trial of a graph whose batch axis was made to vary, against the one in which it is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from latentserve_training.errors import ExportError
from latentserve_training.export.onnx_model import describe_node
from latentserve_training.export.parity import allowed_difference
from latentserve_training.export.plan import BATCH
from latentserve_training.export.runtime_message import shortened
from latentserve_training.foreign.onnx_file import ForeignSession, OnnxFile, with_outputs

_BATCHES = (1, 2, 7)
_SEED = 0


def batch_problem(free: onnx.ModelProto, source: OnnxFile, reference: ForeignSession, tensors: Sequence[str]) -> str:
    """Why the graph, in batches of several sizes, is not what its file is, for a message; empty if nothing is found.

    `source` has its weights, and `reference` runs the file.
    Inputs that have an open axis beside the batch are not tried.

    Raises:
        ExportError: the file itself does not run.
    """
    problem = _found(free, source, reference, tensors)
    return problem and (_modulated(free) or problem)


def _found(free: onnx.ModelProto, source: OnnxFile, reference: ForeignSession, tensors: Sequence[str]) -> str:
    """What is wrong with the graph in one of the batches; empty if nothing is."""
    sides = [axis for value in free.graph.input for axis in value.type.tensor_type.shape.dim]
    if any(axis.dim_param != BATCH and axis.dim_value < 1 for axis in sides):
        return ""
    random = np.random.default_rng(_SEED)
    feeds = {value.name: _example(value, random) for value in free.graph.input}
    expected = reference.run(feeds)
    try:
        session = source.open(with_outputs(free, tensors))
        for rows in _BATCHES:
            fed = {value.name: _first_rows(value, feeds[value.name], rows) for value in free.graph.input}
            for name, found in zip(tensors, session.run(list(tensors), fed), strict=True):
                if not _same(found, expected[name][:rows]):
                    return f"{name!r} comes out otherwise in a batch of {rows}"
    except ExportError as error:
        return str(error)
    except Exception as error:  # onnxruntime's own kinds of error have no public common class
        return shortened(error)
    return ""


def _modulated(model: onnx.ModelProto) -> str:
    """The convolution whose weights the inputs decide, as StyleGAN2 modulates them; empty if there is none.

    Its rows are groups of one convolution, and groups are a number in the file.
    """
    depends = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in depends:
            groups = "has weights of each row's own, in as many groups as there are rows, which ONNX fixes"
            return f"{describe_node(node)} {groups}; scale what it reads and gives in their place"
        if not depends.isdisjoint(node.input):
            depends.update(node.output)
    return ""


def _example(value: onnx.ValueInfoProto, random: np.random.Generator) -> NDArray[Any]:
    """The rows of an input that are tried, or all of one without a batch axis: normal floats, or 0 and 1 in turn."""
    tensor = value.type.tensor_type
    shape = [axis.dim_value or _BATCHES[-1] for axis in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    numbers = random.standard_normal(shape) if dtype.kind == "f" else np.arange(np.prod(shape)).reshape(shape) % 2
    return numbers.astype(dtype)


def _first_rows(value: onnx.ValueInfoProto, fed: NDArray[Any], rows: int) -> NDArray[Any]:
    axes = value.type.tensor_type.shape.dim
    return fed[:rows] if axes and axes[0].dim_param == BATCH else fed


def _same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    if found.shape != expected.shape:
        return False
    limit = allowed_difference(np.nan_to_num(expected))
    return np.allclose(found.astype(np.float64), expected.astype(np.float64), rtol=0, atol=limit, equal_nan=True)
