"""A model's ONNX graphs: exported from torch, then held to every promise that a bundle makes about them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentserve_training.errors import ExportError
from latentserve_training.models import Vae
from latentserve_training.models.model import GenerativeModel

Arrays = dict[str, NDArray[np.generic]]

OPSETS = range(18, 21)
BATCH = "batch"
PARITY_BATCHES = (1, 2, 7, 64)
PARITY_LIMIT = 1e-5
_EXAMPLE_BATCH = 2
_RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


class EncoderGraph(nn.Module):
    """Images float32 [batch, channels, height, width] in [0, 1] to the posterior's mean and log-variance."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, float32 [batch, latent_dim]."""
        return self.model.encode(image)


class DecoderGraph(nn.Module):
    """Latents float32 [batch, latent_dim] to images in [0, 1] and as uint8."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Images float32 [batch, channels, height, width], and round-half-even(255 * image) as uint8."""
        image = self.model.decode(latent)
        return image, torch.round(255 * image).to(torch.uint8)


class BernoulliDecoderGraph(nn.Module):
    """As DecoderGraph, with the logits of the pixels' probabilities as a third output."""

    def __init__(self, model: Vae) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images float32, images uint8 and logits float32, each [batch, channels, height, width]."""
        logits = self.model.decode_logits(latent)
        image = logits.sigmoid()
        return image, torch.round(255 * image).to(torch.uint8), logits


@dataclass(frozen=True)
class GraphPlan:
    """One graph to export: a module of one input, and the names its tensors get."""

    role: str
    module: nn.Module
    input: str
    outputs: tuple[str, ...]
    example: Tensor
    """Rows to trace and to check with, float32 [at least 64, ...]."""

    def compute(self, rows: Tensor) -> Arrays:
        """The input and torch's outputs for `rows`, by name."""
        with torch.no_grad():
            outputs = self.module(rows)
        return {
            name: tensor.numpy() for name, tensor in zip((self.input, *self.outputs), (rows, *outputs), strict=True)
        }


def plan_graphs(model: GenerativeModel, images: Tensor, latents: Tensor) -> list[GraphPlan]:
    """The graphs of `model`; `images` [n, channels, height, width] in [0, 1] and `latents` [n, latent_dim] check it."""
    if isinstance(model, Vae):
        return [
            GraphPlan("encoder", EncoderGraph(model), "image", ("mean", "log_variance"), images),
            GraphPlan("decoder", BernoulliDecoderGraph(model), "latent", ("image", "image_uint8", "logits"), latents),
        ]
    return [GraphPlan("decoder", DecoderGraph(model), "latent", ("image", "image_uint8"), latents)]


def export_graph(plan: GraphPlan, path: Path) -> float:
    """Write the graph to `path`, check it, and return its largest absolute difference from torch.

    Raises:
        ExportError: a check failed; the message names the graph and the check.
    """
    with _quiet_exporter():
        program = torch.onnx.export(
            plan.module.eval(),
            (plan.example[:_EXAMPLE_BATCH],),
            input_names=[plan.input],
            output_names=list(plan.outputs),
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            verbose=False,
        )
    assert program is not None, "the dynamo exporter always returns its program"
    program.save(path, external_data=False)
    check_graph(path, plan)
    return check_parity(path, plan)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's remarks on absent torchvision operators and on its own internals off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def check_graph(path: Path, plan: GraphPlan) -> None:
    """Hold the file to what needs no run: valid ONNX, known opset, right names, a batch axis that varies, no noise.

    Raises:
        ExportError: one of these does not hold.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{plan.role}: not valid ONNX: {error}") from error
    if opset(model) not in OPSETS:
        raise ExportError(f"{plan.role}: opset is {opset(model)}; allowed are {OPSETS[0]} to {OPSETS[-1]}")
    _require_names("inputs", [value.name for value in model.graph.input], [plan.input], plan.role)
    _require_names("outputs", [value.name for value in model.graph.output], plan.outputs, plan.role)
    for value in (*model.graph.input, *model.graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        if axis.dim_param != BATCH:
            raise ExportError(
                f"{plan.role}: the batch axis of {value.name!r} is fixed at {axis.dim_value}; it must vary"
            )
    noisy = sorted({node.op_type for node in model.graph.node} & _RANDOM_OPERATORS)
    if noisy:
        raise ExportError(f"{plan.role}: draws its own noise ({', '.join(noisy)}); noise must be an input")


def opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _require_names(what: str, found: Sequence[str], wanted: Sequence[str], role: str) -> None:
    if list(found) != list(wanted):
        raise ExportError(f"{role}: {what} are {list(found)}; they must be {list(wanted)}")


def check_parity(path: Path, plan: GraphPlan) -> float:
    """Run the file in onnxruntime at several batch sizes; the largest absolute difference of a float output from torch.

    Raises:
        ExportError: the difference is above PARITY_LIMIT, or a uint8 pixel is off by more than one level.
    """
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in PARITY_BATCHES:
        expected = plan.compute(plan.example[:batch])
        found = session.run(list(plan.outputs), {plan.input: expected[plan.input]})
        for name, array in zip(plan.outputs, found, strict=True):
            worst = max(worst, _difference(array, expected[name], f"{plan.role}: {name!r} at batch {batch}"))
    return worst


def _difference(found: NDArray[np.generic], expected: NDArray[np.generic], where: str) -> float:
    """The largest absolute difference of float arrays; 0 for uint8 arrays, where a level either way is rounding."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        ours, theirs = f"{expected.dtype}{list(expected.shape)}", f"{found.dtype}{list(found.shape)}"
        raise ExportError(f"{where} is {theirs} in onnxruntime, but {ours} in torch")
    difference = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
    whole = found.dtype == np.uint8
    limit = 1.0 if whole else PARITY_LIMIT
    # Not `difference > limit`: NaN must fail too.
    if not difference <= limit:
        raise ExportError(f"{where} differs from torch by {difference:.2e}; allowed is {limit:g}")
    return 0.0 if whole else difference
