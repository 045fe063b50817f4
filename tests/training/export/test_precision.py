"""Graphs in lower precision: what the export adds, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file
from training.bundle_graphs import graphs, outputs

from latentserve_server.bundle.bundle import read_bundle
from latentserve_training import commands
from latentserve_training.export.precision import psnr_db
from latentserve_training.export.precision_data import conversion_data
from latentserve_training.models.losses import bernoulli_nll
from latentserve_training.run.trained_model import TrainedModel


@pytest.fixture(scope="module")
def bundle(trained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conv_vae with both lower precisions; not to be changed."""
    folder = tmp_path_factory.mktemp("precision")
    arguments = [str(trained("conv_vae")), "--repository", str(folder), "--strict", "--precisions", "float16", "int8"]
    assert commands.export(arguments) == 0
    return folder / "conv_vae" / "1"


def test_a_precision_that_is_asked_for_twice_is_there_once(trained: Callable[[str], Path], tmp_path: Path) -> None:
    assert (
        commands.export([str(trained("mlp_gan")), "--repository", str(tmp_path), "--precisions", *["float16"] * 2]) == 0
    )
    read_bundle(tmp_path / "mlp_gan" / "1")


def test_the_same_checkpoint_gives_the_same_graphs(
    bundle: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    argv = [str(trained("conv_vae")), "--repository", str(tmp_path), "--precisions", "int8", "float16"]
    assert commands.export(argv) == 0
    again = tmp_path / "conv_vae" / "1"
    names = sorted(path.name for path in bundle.glob("*.onnx"))
    assert len(names) == 6
    assert [(again / name).read_bytes() for name in names] == [(bundle / name).read_bytes() for name in names]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_each_role_has_a_graph_with_the_same_tensors(bundle: Path, precision: str) -> None:
    read_bundle(bundle)
    lower, exact = graphs(bundle, precision), graphs(bundle, "float32")
    assert set(lower) == set(exact) == {"encoder", "decoder"}
    for role, graph in lower.items():
        assert graph.file.path == f"{role}.{precision}.onnx"
        assert (list(graph.inputs), list(graph.outputs)) == (list(exact[role].inputs), list(exact[role].outputs))
        assert not exact[role].HasField("conversion")
        assert {node.domain for node in onnx.load(bundle / graph.file.path).graph.node} == {""}


def test_the_test_images_do_not_decide_which_graphs_there_are(trained: Callable[[str], Path]) -> None:
    run = TrainedModel.load(trained("conv_vae"))
    dataset = run.dataset(None)
    spoilt = replace(dataset, test=replace(dataset.test, images=255 - dataset.test.images))
    for role in ("encoder", "decoder"):
        before, after = (conversion_data(role, run, one).held_out for one in (dataset, spoilt))
        assert all(np.array_equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(
        conversion_data("encoder", run, dataset).held_out["image"], dataset.validation.images.astype(np.float32) / 255
    )


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_manifest_s_decibels_are_those_of_other_rows_too(
    bundle: Path, trained: Callable[[str], Path], precision: str
) -> None:
    run = TrainedModel.load(trained("conv_vae"))
    latents = {"latent": run.latents(1000, seed=77).numpy()}
    exact, lower = (outputs(bundle / name, latents) for name in ("decoder.onnx", f"decoder.{precision}.onnx"))
    error = np.square(exact["image"].astype(np.float64) - lower["image"]).mean()
    conversion = graphs(bundle, precision)["decoder"].conversion
    assert conversion.psnr_db >= 40
    assert -10 * np.log10(error) == pytest.approx(conversion.psnr_db, abs=3)
    assert conversion.speedup > 0
    assert not conversion.HasField("fid_shift"), "the pinned extractor takes 28x28 grey images alone"
    assert np.abs(lower["image_uint8"].astype(int) - np.rint(255 * lower["image"]).astype(int)).max() <= 1


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_manifest_s_decibels_of_the_golden_rows_are_theirs(bundle: Path, precision: str) -> None:
    golden = load_file(bundle / "golden.safetensors")
    for role, inputs, judged in (("encoder", "image", ("mean", "log_variance")), ("decoder", "latent", ("image",))):
        found = outputs(bundle / f"{role}.{precision}.onnx", {inputs: golden[f"{role}.{inputs}"]})
        decibels = []
        for name in judged:
            expected = golden[f"{role}.{name}"].astype(np.float64)
            peak = 1.0 if role == "decoder" else np.abs(expected).max()
            decibels.append(10 * np.log10(peak**2 / np.square(found[name] - expected).mean()))
        conversion = graphs(bundle, precision)[role].conversion
        assert conversion.golden_psnr_db == pytest.approx(min(decibels), abs=0.01)
        assert conversion.weight_bits == (7 if precision == "int8" else 0)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_manifest_tells_how_far_the_nats_of_images_move(
    bundle: Path, trained: Callable[[str], Path], precision: str
) -> None:
    images = TrainedModel.load(trained("conv_vae")).dataset(None).validation.images.astype(np.float32) / 255
    latents = {"latent": outputs(bundle / "encoder.onnx", {"image": images})["mean"]}
    exact, lower = (
        bernoulli_nll(torch.from_numpy(outputs(bundle / name, latents)["logits"]), torch.from_numpy(images))
        for name in ("decoder.onnx", f"decoder.{precision}.onnx")
    )
    told = graphs(bundle, precision)["decoder"].conversion.nll_shift_nats
    assert told == pytest.approx((lower - exact).mean().item(), abs=1e-4)
    assert 0 < abs(told) < 0.05 * exact.std()
    assert not graphs(bundle, precision)["encoder"].conversion.HasField("nll_shift_nats")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float16", onnx.TensorProto.FLOAT16), ("int8", onnx.TensorProto.INT8)]
)
def test_weights_are_stored_in_the_precision(bundle: Path, precision: str, dtype: int) -> None:
    model = onnx.load(bundle / f"decoder.{precision}.onnx")
    assert {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4} == {dtype}


def test_the_signal_to_noise_ratio_is_that_of_its_definition() -> None:
    expected = np.zeros((4, 100), np.float32)
    assert psnr_db(expected + np.float32(0.01), expected, peak=1.0) == pytest.approx(40, abs=1e-3)
    assert psnr_db(expected + np.float32(0.5), expected, peak=5.0) == pytest.approx(20, abs=1e-3)
    assert psnr_db(expected, expected, peak=1.0) == 200.0
    assert psnr_db(expected, expected, peak=0.0) == 200.0
    assert psnr_db(expected + np.float32(0.01), expected, peak=0.0) == -np.inf
    for broken in (np.nan, np.inf):
        assert psnr_db(np.where(np.arange(100) == 3, broken, expected), expected, peak=1.0) == -np.inf
