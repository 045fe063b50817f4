"""What the programs of PyTorch's libraries share: seeded weights, the two exporters, tensors in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shelf
import torch
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm

Array = np.ndarray[Any, Any]
Tensor = torch.Tensor
PACKAGES = ("torch", "onnx", "onnxscript")
"""What makes the files of every program, beside its library."""


def seeded(module: nn.Module, seed: int = 0, gain: float = 1.0) -> nn.Module:
    """The module in inference, with seeded weights of an ordinary size, and statistics that are not those of the start.

    Weights of convolutions and dense layers have deviation gain / sqrt(fan in): pictures of fresh weights are all grey.
    """
    drawn = torch.Generator().manual_seed(seed)

    def fill(tensor: torch.Tensor, mean: float, deviation: float) -> None:
        tensor.copy_(mean + deviation * torch.randn(tensor.shape, generator=drawn))

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
                fill(part.running_mean, 0, 0.2)
                part.running_var.copy_(0.5 + torch.rand(part.running_var.shape, generator=drawn))
        for name, weight in module.named_parameters():
            if weight.ndim >= 2:
                transposed = isinstance(module.get_submodule(name.rpartition(".")[0]), nn.ConvTranspose2d)
                fan = weight.numel() / weight.shape[0] if not transposed else weight.numel() / weight.shape[1] / 4
                fill(weight, 0, gain * (2 / fan) ** 0.5)
            elif name.endswith("weight"):
                fill(weight, 1, 0.2)
            else:
                fill(weight, 0, 0.2)
        for part in module.modules():
            for hook in part._forward_pre_hooks.values():
                if isinstance(hook, SpectralNorm):  # as training would leave it: the largest singular value of these
                    for _ in range(50):
                        hook.compute_weight(part, do_power_iteration=True)
    return module.eval()


def settle(layers: Sequence[Any], draw: Callable[..., Any], *inputs: Array, centre: float, spread: float) -> None:
    """Scale the last layers, whose sum the output is, so that its values lie around the centre and have that spread."""
    with torch.no_grad():
        factor = spread / float(run(draw, *inputs).std())
        for layer in layers:
            layer.weight.mul_(factor)
        if (bias := getattr(layers[-1], "bias", None)) is not None:
            means = []
            for value in (0.0, 1.0):
                bias.fill_(value)
                means.append(float(run(draw, *inputs).mean()))
            bias.fill_((centre - means[0]) / (means[1] - means[0]))


class Call(nn.Module):
    """A function of a model as a module of its own, as exporters want it."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self._function(*inputs)


def export(
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    path: Path,
    names: Sequence[str],
    outputs: Sequence[str],
    *,
    fixed: Sequence[str] = (),
    **options: Any,
) -> None:
    """torch.onnx.export as it is by default, with a batch that varies but for the inputs that are `fixed`."""
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        module.eval(),
        tuple(inputs),
        path,
        input_names=list(names),
        output_names=list(outputs),
        dynamic_shapes=(tuple({} if name in fixed else {0: batch} for name in names),)
        if isinstance(module, Call)
        else tuple({} if name in fixed else {0: batch} for name in names),
        external_data=False,
        verbose=False,
        **options,
    )


def export_script(
    module: nn.Module,
    inputs: Sequence[torch.Tensor],
    path: Path,
    names: Sequence[str],
    outputs: Sequence[str],
    opset: int = 14,
    batch: bool = True,
) -> None:
    """The older exporter, by TorchScript, which most scripts still call."""
    torch.onnx.export(
        module.eval(),
        tuple(inputs),
        path,
        input_names=list(names),
        output_names=list(outputs),
        dynamic_axes={name: {0: "batch"} for name in (*names, *outputs)} if batch else None,
        opset_version=opset,
        do_constant_folding=True,
        dynamo=False,
    )


def run(function: Callable[..., Any], *inputs: Array) -> Any:
    """What the model gives for the arrays, as an array or a tuple of arrays."""
    with torch.no_grad():
        found = function(*map(torch.from_numpy, inputs))
    return tuple(part.numpy() for part in found) if isinstance(found, tuple) else found.numpy()


def on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """The model's function as one of arrays."""
    return partial(run, function)


def write_labelled(folder: Path, description: str, model: nn.Module, dim: int, inputs: Sequence[str]) -> None:
    """Export a generator of latents and ten labels, and write what it draws."""
    export(model, [torch.randn(2, dim), torch.tensor([1, 2])], folder / "decoder.onnx", inputs, ["image"])
    z, y = shelf.latents(dim), shelf.labels(10)
    shelf.write(folder, description, latents=z, labels=y, images=run(model, z, y))
