"""Conversion of a torch module to an ONNX file, and the checks of the result."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.fx import Interpreter, Node

from latentserve_training.errors import ExportError
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.graphs import TorchPlan
from latentserve_training.export.onnx_model import strip
from latentserve_training.export.parity import (
    ParityError,
    RowBits,
    Trial,
    allowed_difference,
    first_difference,
    largest_difference,
)
from latentserve_training.export.plan import BATCH
from latentserve_training.export.silence import silence

_EXAMPLE_BATCH = 2
_TORCH = Path(torch.__file__).parent
_OPERATOR = re.compile(r"(?:OpOverload\(op='|target=torch\.ops\.)(?P<name>[\w.]+)")


def export_graph(plan: TorchPlan, path: Path) -> tuple[float, RowBits]:
    """Write the graph to `path`, check it, and return its largest absolute difference from torch, and its rows' bits.

    Raises:
        ExportError: torch cannot export it, or a check failed; the message names the graph, and the operator or node.
    """
    program = _convert(plan)
    model = program.model_proto
    strip(model)
    onnx.save(model, path)
    check_graph(path, plan)
    trial = Trial(path, plan)
    try:
        return trial.check_parity(), trial.row_bits()
    except ParityError as error:
        raise ExportError(f"{error}; {_origin(plan, model, program.exported_program)}") from error


def _convert(plan: TorchPlan) -> Any:
    """torch's own result, an ONNXProgram."""
    example = TorchPlan.tensors(plan.rows(0, _EXAMPLE_BATCH))
    try:
        with silence():  # absent torchvision operators, and its internals
            return torch.onnx.export(
                plan.module.eval(),
                example,
                input_names=list(plan.example),
                output_names=list(plan.outputs),
                dynamic_shapes=tuple({0: torch.export.Dim(BATCH)} for _ in example),
                verbose=False,
            )
    except Exception as error:  # whatever the model's own code raises, and all of torch's kinds
        raise ExportError(f"{plan.role}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Why torch would not export, in one sentence: the operator where it names one, and the line of the model."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    names = [type(link).__name__ for link in chain]
    root = chain[-1]
    where = _line_of(root)
    if "GuardOnDataDependentSymNode" in names:
        return f"control flow depends on the values of a tensor{where}; a graph takes one way for all inputs"
    if "ConversionError" in names or "DispatchError" in names:
        operator = next((found["name"] for link in chain if (found := _OPERATOR.search(str(link)))), "of the model")
        return f"the operator {operator} has no ONNX form"
    if "ConstraintViolationError" in names or "specialized" in str(root):
        return f"the batch axis does not vary in the model's code: {_first_line(root)}"
    return f"cannot be exported: {_first_line(root)}{where}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _line_of(error: BaseException) -> str:
    """The line of the model's code that raised the error; empty if only torch's code took part."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not Path(frame.filename).is_relative_to(_TORCH) and Path(frame.filename) != Path(__file__)
    ]
    if not own:
        return ""
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno} ({own[-1].line})"


class _Recorder(Interpreter):
    """Runs a traced program and records every node's value under the name it has in the ONNX graph."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, NDArray[np.generic]] = {}

    def run_node(self, n: Node) -> Any:
        """Run a node, and record its value if that is a tensor."""
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.values[n.name] = value.detach().numpy()
        return value


def _origin(plan: TorchPlan, model: onnx.ModelProto, program: torch.export.ExportedProgram) -> str:
    """Where the graph diverges from the model: in tracing, or at a node."""
    recorder = _Recorder(program.module())
    inputs = plan.rows(0, _EXAMPLE_BATCH)
    with torch.no_grad():
        outputs = recorder.run(*TorchPlan.tensors(inputs))
    traced = {name: tensor.numpy() for name, tensor in zip(plan.outputs, outputs, strict=True)}
    for name, expected in plan.compute(inputs).items():
        if not largest_difference(traced[name], expected) <= allowed_difference(expected):
            return "the trace of the model's code differs already: it does something else from run to run"
    node = first_difference(model, inputs, {**recorder.values, **traced})
    return f"the first node that differs is {node}" if node else "no single node differs by itself"
