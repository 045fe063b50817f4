"""A function of a torch module as a network: run and exported by torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentserve_training.foreign.saved.library import at_work
from latentserve_training.foreign.saved.saved_model import Array, Network


class _Call(nn.Module):
    """A function of a module as a module of its own, as the exporter wants it."""

    def __init__(self, module: nn.Module, function: Callable[[Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._function(rows))


def torch_network(
    module: nn.Module,
    function: Callable[[Tensor], Sequence[Tensor]],
    example: Tensor,
    outputs: tuple[str, ...],
    **options: Any,
) -> Network:
    """The network that `function` computes with the module, from rows as in `example`, of which there are two.

    `options` are those of torch.onnx.export. Exporting raises ExportError where torch cannot.
    """
    call = _Call(module, function).eval()
    decodes = outputs == ("image",)
    role, inputs = ("decoder", ("latent",)) if decodes else ("encoder", ("image",))

    def run(rows: Array) -> Sequence[Array]:
        with torch.no_grad():
            return [tensor.numpy() for tensor in call(torch.from_numpy(rows))]

    def write(path: Path) -> None:
        with at_work(f"{role}: torch cannot export it"):
            torch.onnx.export(
                call,
                (example,),
                path,
                input_names=["given"],
                output_names=[f"found_{name}" for name in outputs],  # nodes are called mean, too
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
                **options,
            )

    return Network(inputs=inputs, outputs=outputs, run=run, write=write)
