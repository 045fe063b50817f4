"""Graphs in lower precision that lose too much: each gate, and what an export does then."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from training.bundle_graphs import graphs, outputs
from training.small_decoder import SmallDecoder, seeded_latents

from latentserve_server.bundle.bundle import read_bundle
from latentserve_training import commands
from latentserve_training.evaluation.extractor import Extractor
from latentserve_training.evaluation.fidelity import frechet_distance
from latentserve_training.export.graphs import TorchPlan
from latentserve_training.export.precision import (
    QualityGateError,
    convert,
)
from latentserve_training.export.precision_data import ConversionData, FidReference, LikelihoodReference
from latentserve_training.export.torch_to_onnx import export_graph

Capture = pytest.CaptureFixture[str]


def told(error: QualityGateError) -> str:
    """What is said of a graph that loses too much; figures that were computed are `#`."""
    return re.sub(r"\d+\.\d+(e[+-]\d+)?", "#", str(error))


def left_out(reason: str) -> str:
    """The words for a decoder of which neither all layers nor all but the last can be of eight bits."""
    return f"decoder in int8 is left out (all layers: {reason}; all but the last layer: {reason})"


class Loud(SmallDecoder):
    """Sound images by way of values that float16 does not have."""

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        hidden = 1e-7 * (1e7 * self.wide(latent))
        image = torch.sigmoid(self.narrow(hidden)).reshape(-1, 1, 4, 4)
        return image, torch.round(255 * image).to(torch.uint8)


def test_a_graph_with_values_beyond_float16_is_left_out_in_float16_alone(tmp_path: Path) -> None:
    plan, path, rows = exported(tmp_path, Loud(outputs=16))
    with pytest.raises(QualityGateError) as caught:
        convert(plan, path, "float16", rows)
    assert told(caught.value) == "decoder in float16 is left out: 'mul_2' reaches # of at most 65504"
    assert [file.name for file in tmp_path.iterdir()] == ["decoder.onnx"]


class Outlying(SmallDecoder):
    """One channel of a thousand times the others' size: eight bits for all of them leave the others nothing."""

    def __init__(self) -> None:
        super().__init__(outputs=16)
        with torch.no_grad():
            self.wide.weight[0] *= 1e3
            self.narrow.weight[:, 0] *= 1e-3

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        image = torch.sigmoid(40 * self.narrow(self.wide(latent))).reshape(-1, 1, 4, 4)
        return image, torch.round(255 * image).to(torch.uint8)


def exported(folder: Path, module: SmallDecoder) -> tuple[TorchPlan, Path, ConversionData]:
    plan = TorchPlan(role="decoder", module=module, example=seeded_latents(0), outputs=("image", "image_uint8"))
    export_graph(plan, folder / "decoder.onnx")
    return plan, folder / "decoder.onnx", ConversionData(calibration=seeded_latents(1), held_out=seeded_latents(2))


def test_a_graph_that_loses_too_much_is_left_out_with_its_reason(tmp_path: Path) -> None:
    plan, path, rows = exported(tmp_path, Outlying())
    with pytest.raises(QualityGateError) as caught:
        convert(plan, path, "int8", rows)
    assert told(caught.value) == left_out("'image' has # dB against float32; at least 40 are demanded")
    assert [file.name for file in tmp_path.iterdir()] == ["decoder.onnx"]


class Plain(SmallDecoder):
    """Images of two dense layers, and nothing wrong with them."""

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        image = torch.sigmoid(self.narrow(self.wide(latent))).reshape(-1, 1, 4, 4)
        return image, torch.round(255 * image).to(torch.uint8)


def test_golden_rows_on_which_a_server_would_find_too_much_lost_are_not_good_enough(tmp_path: Path) -> None:
    beyond = {"latent": 10 * seeded_latents(0)["latent"]}
    plan = TorchPlan(role="decoder", module=Plain(outputs=16), example=beyond, outputs=("image", "image_uint8"))
    export_graph(plan, tmp_path / "decoder.onnx")
    rows = ConversionData(calibration=seeded_latents(1), held_out=seeded_latents(2))
    with pytest.raises(QualityGateError) as caught:
        convert(plan, tmp_path / "decoder.onnx", "int8", rows)
    assert told(caught.value) == left_out("the golden rows have # dB against float32; at least 35 are demanded")
    assert [file.name for file in tmp_path.iterdir()] == ["decoder.onnx"]


class Certain(SmallDecoder):
    """White images, from logits so large that what eight bits do to them cannot be seen."""

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = (200 + 40 * self.narrow(self.wide(latent))).reshape(-1, 1, 4, 4)
        image = torch.sigmoid(logits)
        return image, torch.round(255 * image).to(torch.uint8), logits


def test_nats_that_move_by_much_of_their_spread_are_not_good_enough(tmp_path: Path) -> None:
    outputs = ("image", "image_uint8", "logits")
    plan = TorchPlan(role="decoder", module=Certain(outputs=16), example=seeded_latents(0), outputs=outputs)
    path = tmp_path / "decoder.onnx"
    export_graph(plan, path)
    rows = ConversionData(calibration=seeded_latents(1), held_out=seeded_latents(2))
    assert convert(plan, path, "int8", rows).conversion.psnr_db > 100
    alike = {"latent": 1 + seeded_latents(3)["latent"] / 1000}
    explained = LikelihoodReference(likelihood="bernoulli", images=torch.zeros(64, 1, 4, 4), latents=alike)
    with pytest.raises(QualityGateError) as caught:
        convert(plan, path, "int8", replace(rows, likelihood_reference=explained))
    assert told(caught.value) == left_out("the nats of images move by # on average; # are allowed")


@pytest.fixture(scope="module")
def saturated(trained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose decoder has weights of such a size that eight bits are too few."""
    run = tmp_path_factory.mktemp("saturated") / "run"
    shutil.copytree(trained("conv_vae"), run)
    for path in (run / "checkpoints").glob("*.pt"):
        content = torch.load(path, weights_only=True)
        content["average"]["module.decoder.dense.2.weight"] *= 300
        torch.save(content, path)
    return run


def test_the_bundle_is_published_without_what_loses_too_much(saturated: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert commands.export([str(saturated), "--repository", str(tmp_path), "--precisions", "int8"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("latentserve-export: warning: decoder in int8 is left out (")
    assert said.err.count("\n") == 1
    bundle = tmp_path / "conv_vae" / "1"
    assert said.out == f"{bundle}\n"
    assert set(graphs(bundle, "int8")) == {"encoder"}
    assert set(graphs(bundle, "float32")) == {"encoder", "decoder"}
    assert not (bundle / "decoder.int8.onnx").exists()
    read_bundle(bundle)


def test_a_strict_export_fails_instead(saturated: Path, tmp_path: Path, capsys: Capture) -> None:
    assert commands.export([str(saturated), "--repository", str(tmp_path), "--strict", "--precisions", "int8"]) == 1
    assert "latentserve-export: error: decoder in int8 is left out" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.onnx"))


class OutlyingConvolutions(SmallDecoder):
    """As `Outlying`, in the second of three convolutions behind sound dense layers."""

    def __init__(self) -> None:
        super().__init__(outputs=16)
        self.convolutions = nn.Sequential(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 1, 1))
        with torch.no_grad():
            self.convolutions[0].weight[0] *= 1e3
            self.convolutions[1].weight[:, 0] *= 1e-3

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        image = torch.sigmoid(10 * self.convolutions(self.narrow(self.wide(latent)).reshape(-1, 1, 4, 4)))
        return image, torch.round(255 * image).to(torch.uint8)


def test_where_convolutions_lose_too_much_the_dense_layers_alone_are_eight_bits(tmp_path: Path) -> None:
    plan, path, rows = exported(tmp_path, OutlyingConvolutions())
    entry = convert(plan, path, "int8", rows)
    assert entry.conversion.psnr_db >= 40
    graph = onnx.load(tmp_path / entry.file.path).graph
    made = {output: node.op_type for node in graph.node for output in node.output}
    read = {node.op_type: made.get(node.input[0]) for node in graph.node}
    assert read["Gemm"] == "DequantizeLinear"
    assert read["Conv"] != "DequantizeLinear"


class Pictures(nn.Module):
    """Random 28x28 images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense = nn.Linear(in_features=3, out_features=784)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        image = self.dense(latent).sigmoid().reshape(-1, 1, 28, 28)
        return image, torch.round(255 * image).to(torch.uint8)


def test_the_shift_of_the_fid_is_measured_where_the_extractor_fits(tmp_path: Path) -> None:
    extractor = Extractor.read()
    latents = seeded_latents(0, 300)
    plan = TorchPlan(role="decoder", module=Pictures(), example=latents, outputs=("image", "image_uint8"))
    export_graph(plan, tmp_path / "decoder.onnx")
    real = extractor.features(torch.randint(256, (300, 1, 28, 28), generator=torch.Generator().manual_seed(1)))
    rows = ConversionData(
        calibration=latents,
        held_out=latents,
        fid_reference=FidReference(extractor=extractor, real=real, samples=latents),
    )
    conversion = convert(plan, tmp_path / "decoder.onnx", "int8", rows).conversion
    distances = [
        frechet_distance(real, extractor.features(torch.from_numpy(outputs(tmp_path / name, latents)["image_uint8"])))
        for name in ("decoder.onnx", "decoder.int8.onnx")
    ]
    assert conversion.fid_shift == pytest.approx(distances[1] / distances[0] - 1, abs=1e-4)
    assert 0 < abs(conversion.fid_shift) <= 0.05
