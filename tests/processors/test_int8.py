"""An int8 bundle that was exported here draws the same pictures on every processor, or leaves the work to float32."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from lower_precision import add_int8
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from processors import emulator
from resigned import resign
from safetensors.numpy import load_file
from saturating_decoder import latents, publish_saturating
from tiny_bundle import TinyModel

from latentserve.v1 import bundle_pb2
from latentserve_training.export.precision import psnr_db

INT8, FLOAT32 = bundle_pb2.PRECISION_INT8, bundle_pb2.PRECISION_FLOAT32
LATENTS = latents(seed=3)
ROUNDING = 1e-6
SATURATES = {emulator.AVX2}
"""Those that add the products of two int8 weights in 16 bits; older ones do not, and newer ones have VNNI."""


@pytest.fixture(scope="module")
def seven_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `SaturatingDecoder`, as it is exported; not to be changed."""
    return publish_saturating(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def eight_bits(seven_bits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with weights from -127 to 127, which says of itself what the other one does; not to be changed."""
    folder = tmp_path_factory.mktemp("eight_bits")
    bundle = shutil.copytree(seven_bits, folder / "bundle")
    batches = iter([{"latent": latents(seed=1)}])

    class Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(batches, None)

    path = folder / "decoder.onnx"
    quantize_static(
        bundle / "decoder.onnx",
        path,
        Calibration(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return resign(bundle, "decoder.int8.onnx", path.read_bytes())


def serve(bundle: Path, processor: str | None = None) -> dict[str, NDArray[Any]]:
    """What serve_int8.py finds on the processor, or here."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "latents.npz", latents=LATENTS)
        return emulator.run("serve_int8.py", bundle, Path(folder) / "latents.npz", processor=processor)


def decibels(bundle: Path, images: NDArray[np.float32]) -> float:
    """How near the images are to those of the bundle's float32 graph."""
    session = onnxruntime.InferenceSession(bundle / "decoder.onnx", providers=["CPUExecutionProvider"])
    return psnr_db(images, session.run(["image"], {"latent": LATENTS})[0], peak=1.0)


def test_seven_bits_are_the_same_on_every_processor(seven_bits: Path, processor: str) -> None:
    here, there = serve(seven_bits), serve(seven_bits, processor)
    assert here["precision"] == there["precision"] == INT8
    np.testing.assert_allclose(there["images"], here["images"], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(there["plain"], here["images"], rtol=0, atol=ROUNDING)
    assert decibels(seven_bits, here["images"]) > 40


def test_eight_bits_are_the_same_where_a_server_runs_them(eight_bits: Path, processor: str) -> None:
    here, there = serve(eight_bits), serve(eight_bits, processor)
    assert here["precision"] == there["precision"] == INT8
    np.testing.assert_allclose(there["images"], here["images"], rtol=0, atol=ROUNDING)
    assert decibels(eight_bits, here["images"]) > 40
    assert (decibels(eight_bits, there["plain"]) < 30) == (processor in SATURATES)


def test_a_graph_that_saturates_all_the_same_leaves_the_work_to_float32(tmp_path: Path, processor: str) -> None:
    model = TinyModel(kind="gan")
    weights = model.weights["decoder_weight"]
    weights[:] = np.where(weights[0] > 0, 0.5, -0.5)  # of one sign for all that is added to a pixel
    bundle = model.write(tmp_path / "bundle")
    golden = load_file(bundle / "golden.safetensors")
    reached = psnr_db(computed_images(model, golden["decoder.latent"]), golden["decoder.image"], peak=1.0)
    assert reached > 40
    conversion = bundle_pb2.Conversion(golden_psnr_db=reached)
    add_int8(bundle, "decoder", lambda graph: compute_weights(graph, model), conversion)
    there = serve(bundle, processor)
    assert there["precision"] == (FLOAT32 if processor in SATURATES else INT8)
    assert decibels(bundle, there["images"]) > 40
    assert (decibels(bundle, there["plain"]) < 30) == (processor in SATURATES)


LATENT_STEP = np.float32(4 / 127)


def weight_levels(model: TinyModel) -> tuple[NDArray[np.float32], np.float32]:
    """The decoder's weights from -127 to 127, and what one level is."""
    weights = model.weights["decoder_weight"]
    step = np.float32(np.abs(weights).max() / 127)
    return np.rint(weights / step), step


def computed_images(model: TinyModel, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What `compute_weights` makes of the decoder, in arithmetic that does not saturate."""
    levels, step = weight_levels(model)
    quantized = np.clip(np.rint(rows / LATENT_STEP), -128, 127)
    logits = quantized @ levels.astype(np.float64) * LATENT_STEP * step + model.weights["decoder_bias"]
    return np.asarray(1 / (1 + np.exp(-logits))).reshape(-1, *model.shape)


def compute_weights(graph: onnx.ModelProto, model: TinyModel) -> None:
    """Give the decoder 8-bit weights that are no constants, so that no option can make others of them."""
    levels, step = weight_levels(model)
    constants = {
        "levels_of_weights": levels,
        "step": np.float32(LATENT_STEP * step),
        "latent_step": LATENT_STEP,
        "latent_zero": np.uint8(128),
        "nothing": np.float32(0),
    }
    (gemm,) = [node for node in graph.graph.node if node.op_type == "Gemm"]
    make = onnx.helper.make_node
    computed = [
        make("QuantizeLinear", ["latent", "latent_step", "latent_zero"], ["quantized"]),
        make("ReduceMax", ["latent"], ["largest"], keepdims=0),
        make("Mul", ["largest", "nothing"], ["zero_of_rows"]),
        make("Add", ["levels_of_weights", "zero_of_rows"], ["sum_of_levels"]),
        make("Cast", ["sum_of_levels"], ["weights"], to=onnx.TensorProto.INT8),
        make("MatMulInteger", ["quantized", "weights", "latent_zero"], ["products"]),
        make("Cast", ["products"], ["sums"], to=onnx.TensorProto.FLOAT),
        make("Mul", ["sums", "step"], ["scaled_sums"]),
        make("Add", ["scaled_sums", "decoder_bias"], [gemm.output[0]]),
    ]
    graph.graph.node.remove(gemm)
    nodes = [*computed, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.checker.check_model(graph, full_check=True)
