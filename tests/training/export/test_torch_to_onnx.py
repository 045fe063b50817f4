"""What the exporter refuses to write: graphs that do not hold what a bundle promises, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from training.small_decoder import SmallDecoder, seeded_latents

from latentserve_training.errors import ExportError
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.graphs import TorchPlan
from latentserve_training.export.parity import RowBits, Trial
from latentserve_training.export.torch_to_onnx import export_graph


class Doubling(nn.Module):
    """A graph as it should be: [batch, 3] to [batch, 3]."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (2 * latent,)


class StaticBatch(nn.Module):
    """Python looks at the batch size, and the exporter writes down the size it saw."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (torch.cat([2 * latent[row : row + 1] for row in range(latent.shape[0])]),)


class OwnNoise(nn.Module):
    """Noise drawn inside of the graph."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (latent + torch.randn_like(latent),)


class Ragged(nn.Module):
    """An output whose rows are not the input's."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (latent.flatten(),)


class Branching(nn.Module):
    """Python takes another way for other values."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        if latent.sum() > 0:
            return (latent,)
        return (2 * latent,)


class Unsupported(nn.Module):
    """An operator that ONNX does not have."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (torch.linalg.eigvals(latent[:, :, None] * latent[:, None, :]).real,)


class MixedRows(nn.Module):
    """Every row is scaled by the largest value of the batch."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (latent * latent.max(),)


class Counting(nn.Module):
    """Another function every time it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        self.calls += 1
        return (self.calls * latent.tanh(),)


class Summing(SmallDecoder):
    """Sums over windows, which the exporter turns into means."""

    def __init__(self) -> None:
        super().__init__(outputs=3)

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        summed = functional.avg_pool2d(self.wide(latent).view(-1, 1, 8, 8), 2, divisor_override=1)
        return (summed.flatten(1)[:, :3],)


class Broken(nn.Module):
    """A model with a bug."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        raise KeyError("no such layer")


FIXED = (
    "the batch axis of 'latent' is fixed at 2; it must vary "
    "(code that uses the batch's size as a Python number fixes it)"
)
DIFFERS = "differs from the model by #; allowed is #"
COMPUTED = re.compile(r"(?<=by )\d[\d.e+-]*|(?<=is )\d[\d.e+-]*(?=; the )|(?<=\.py:)\d+")
"""Differences, what is allowed of them, and numbers of lines."""


def plan(module: nn.Module) -> TorchPlan:
    return TorchPlan(role="decoder", module=module, example=seeded_latents(0), outputs=("image",))


def test_a_good_graph_passes_every_check(tmp_path: Path) -> None:
    assert export_graph(plan(Doubling()), tmp_path / "decoder.onnx") == (0.0, RowBits("", 64))
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (StaticBatch(), f"decoder: {FIXED}"),
        (
            OwnNoise(),
            "decoder: the graph's operator 'RandomNormalLike' at 'node_randn_like' draws random numbers; "
            "noise is an input",
        ),
        (
            Ragged(),
            "decoder: the batch axis of 'image' is fixed at '3*batch'; it must vary (lost at Reshape 'node_Reshape_7')",
        ),
        (
            Branching(),
            "decoder: control flow depends on the values of a tensor at test_torch_to_onnx.py:# (if latent.sum() > 0:)"
            "; a graph takes one way for all inputs",
        ),
        (Unsupported(), "decoder: the operator aten.linalg_eig has no ONNX form"),
        (
            MixedRows(),
            "decoder: 'image' of a row changes by # with the other rows of its batch; rows must be independent",
        ),
        (
            Counting(),
            f"decoder: 'image' at batch 2 {DIFFERS}; the trace of the model's code differs already: "
            "it does something else from run to run",
        ),
        (
            Summing(),
            f"decoder: 'image' at batch 1 {DIFFERS}; the first node that differs is AveragePool 'node_avg_pool2d'",
        ),
        (
            Broken(),
            "decoder: cannot be exported: 'no such layer' at test_torch_to_onnx.py:# "
            '(raise KeyError("no such layer"))',
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_exported_faithfully_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], module: nn.Module, message: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export_graph(plan(module), tmp_path / "decoder.onnx")
    assert COMPUTED.sub("#", str(caught.value)) == message
    assert capfd.readouterr() == ("", ""), "the one line is the command's to write"


def test_a_graph_tells_nothing_of_the_place_it_was_made_in(good_graph: Path) -> None:
    content = good_graph.read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert Path(__file__).name.encode() not in content
    assert b"site-packages" not in content


@pytest.fixture(scope="module")
def good_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that passes every check; not to be changed."""
    path = tmp_path_factory.mktemp("good") / "decoder.onnx"
    export_graph(plan(Doubling()), path)
    return path


def edited(graph: Path, path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A copy of the graph, changed on disk."""
    model = onnx.load(graph)
    change(model)
    onnx.save(model, path)
    return path


def test_a_renamed_output_a_new_opset_and_a_fixed_axis_are_caught(good_graph: Path, tmp_path: Path) -> None:
    def fix(model: onnx.ModelProto) -> None:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 2

    def renew(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 27

    for graph, wanted, message in (
        (edited(good_graph, tmp_path / "fixed.onnx", fix), plan(Doubling()), FIXED),
        (
            edited(good_graph, tmp_path / "new.onnx", renew),
            plan(Doubling()),
            "the graph's IR version is 10 and its operator set 27; allowed are IR versions 3 to 13 and operator sets "
            "7 to 26",
        ),
        (
            good_graph,
            replace(plan(Doubling()), outputs=("picture",)),
            "outputs are ['image']; they must be ['picture']",
        ),
    ):
        with pytest.raises(ExportError) as caught:
            check_graph(graph, wanted)
        assert str(caught.value) == f"decoder: {message}"


def test_a_damaged_graph_is_not_valid_onnx(good_graph: Path, tmp_path: Path) -> None:
    path = edited(
        good_graph, tmp_path / "decoder.onnx", lambda model: setattr(model.graph.node[0], "op_type", "Nonsense")
    )
    with pytest.raises(ExportError, match=r"^decoder: not valid ONNX: "):
        check_graph(path, plan(Doubling()))


@pytest.mark.parametrize("factor", [2.0001, float("nan")])
def test_a_graph_that_disagrees_with_torch_is_caught(good_graph: Path, factor: float) -> None:
    class Other(nn.Module):
        def forward(self, latent: Tensor) -> tuple[Tensor]:
            return (factor * latent,)

    with pytest.raises(ExportError, match=r"^decoder: 'image' at batch 1 "):
        Trial(good_graph, plan(Other())).check_parity()


def test_uint8_pixels_may_differ_by_one_level_and_no_more(tmp_path: Path) -> None:
    class Level(nn.Module):
        def __init__(self, level: int) -> None:
            super().__init__()
            self.level = level

        def forward(self, latent: Tensor) -> tuple[Tensor]:
            return ((0 * latent + self.level).to(torch.uint8),)

    path = tmp_path / "decoder.onnx"
    export_graph(plan(Level(7)), path)
    assert Trial(path, plan(Level(8))).check_parity() == 0.0
    with pytest.raises(ExportError) as caught:
        Trial(path, plan(Level(9))).check_parity()
    assert str(caught.value) == "decoder: 'image' at batch 1 differs from the model by 2; allowed is 1"
