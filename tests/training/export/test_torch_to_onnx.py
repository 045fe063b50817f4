"""What the exporter refuses to write: graphs that do not hold what a bundle promises, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from training.small_decoder import SmallDecoder, seeded_latents

from latentserve_training.errors import ExportError
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.graphs import TorchPlan
from latentserve_training.export.parity import check_parity
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


class Chaotic(SmallDecoder):
    """A sine that turns the last bits of a product into whole waves."""

    def __init__(self) -> None:
        super().__init__(outputs=3)

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (self.narrow(torch.sin(1e7 * self.wide(latent))),)


class Broken(nn.Module):
    """A model with a bug."""

    def forward(self, latent: Tensor) -> tuple[Tensor]:
        raise KeyError("no such layer")


def plan(module: nn.Module) -> TorchPlan:
    return TorchPlan(role="decoder", module=module, example=seeded_latents(0), outputs=("image",))


def test_a_good_graph_passes_every_check(tmp_path: Path) -> None:
    assert export_graph(plan(Doubling()), tmp_path / "decoder.onnx") == 0.0
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (StaticBatch(), "batch axis of 'latent' is fixed at 2; it must vary .code that uses the batch's size"),
        (OwnNoise(), r"decoder: the graph's operator 'RandomNormalLike' at 'node_randn_like' draws random numbers"),
        (Ragged(), r"batch axis of 'image' is fixed at '3\*batch'; it must vary \(lost at Reshape "),
        (
            Branching(),
            r"control flow depends on the values of a tensor at test_torch_to_onnx.py:\d+ \(if latent.sum\(\) > 0:\)",
        ),
        (Unsupported(), "decoder: the operator aten.linalg_eig has no ONNX form"),
        (MixedRows(), "decoder: 'image' of a row changes by .* with the other rows of its batch"),
        (Counting(), "differs from the model by .*; the trace of the model's code differs already"),
        (Chaotic(), "differs from the model by .*; the first node that differs is Sin 'node_sin'"),
        (Broken(), r"decoder: cannot be exported: 'no such layer' at test_torch_to_onnx.py:\d+"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_exported_faithfully_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], module: nn.Module, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export_graph(plan(module), tmp_path / "decoder.onnx")
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


def edited(graph: Path, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A copy of the graph, changed on disk."""
    path = folder / "decoder.onnx"
    model = onnx.load(graph)
    change(model)
    onnx.save(model, path)
    return path


def test_a_renamed_output_an_old_opset_and_a_fixed_axis_are_caught(good_graph: Path, tmp_path: Path) -> None:
    def fix(model: onnx.ModelProto) -> None:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 2

    def age(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 17

    with pytest.raises(ExportError, match="batch axis of 'latent' is fixed at 2"):
        check_graph(edited(good_graph, tmp_path, fix), plan(Doubling()))
    with pytest.raises(ExportError, match="operator set is 17; allowed are 18 to 20"):
        check_graph(edited(good_graph, tmp_path, age), plan(Doubling()))
    with pytest.raises(ExportError, match=r"outputs are \['image'\]; they must be \['picture'\]"):
        check_graph(good_graph, replace(plan(Doubling()), outputs=("picture",)))


def test_a_damaged_graph_is_not_valid_onnx(good_graph: Path, tmp_path: Path) -> None:
    path = edited(good_graph, tmp_path, lambda model: setattr(model.graph.node[0], "op_type", "Nonsense"))
    with pytest.raises(ExportError, match="not valid ONNX"):
        check_graph(path, plan(Doubling()))


@pytest.mark.parametrize("factor", [2.0001, float("nan")])
def test_a_graph_that_disagrees_with_torch_is_caught(good_graph: Path, factor: float) -> None:
    class Other(nn.Module):
        def forward(self, latent: Tensor) -> tuple[Tensor]:
            return (factor * latent,)

    with pytest.raises(ExportError, match=r"'image' at batch 1 differs from the model by .*; allowed is "):
        check_parity(good_graph, plan(Other()))


def test_uint8_pixels_may_differ_by_one_level_and_no_more(tmp_path: Path) -> None:
    class Level(nn.Module):
        def __init__(self, level: int) -> None:
            super().__init__()
            self.level = level

        def forward(self, latent: Tensor) -> tuple[Tensor]:
            return ((0 * latent + self.level).to(torch.uint8),)

    path = tmp_path / "decoder.onnx"
    export_graph(plan(Level(7)), path)
    assert check_parity(path, plan(Level(8))) == 0.0
    with pytest.raises(ExportError, match=r"differs from the model by 2; allowed is 1"):
        check_parity(path, plan(Level(9)))
