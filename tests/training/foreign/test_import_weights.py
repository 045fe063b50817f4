"""Importing graphs of many weights: what is left inside, what goes beside, and what of other files is taken."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from running_server import running_server
from training.foreign_models import GAN, LATENTS, TANH, WEIGHTS, bring, refusal, write

from latentserve_client import AsyncClient

Capture = pytest.CaptureFixture[str]

DESCRIBED = {**GAN, "image_range": [-1, 1]}
LARGE = TANH.replace("y = Tanh(h)", "e = Gather(large, first)\n m = Add(h, e)\n y = Tanh(m)")
"""The decoder, with a row of a large table added to what Tanh takes."""
ROWS = 1_450_000


@pytest.fixture(scope="module")
def large() -> NDArray[np.float32]:
    """A table of 66.4 MiB."""
    return np.random.default_rng(2).standard_normal((ROWS, 12), dtype=np.float32)


def written(path: Path, table: NDArray[np.float32], outside: str = "") -> Path:
    write(path, LARGE)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(table, "large"))
    onnx.save(model, path, save_as_external_data=bool(outside), location=outside or None, size_threshold=0)
    return path


def expected(table: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((np.tanh(LATENTS @ WEIGHTS["w"] + table[0]) + 1) / 2).reshape(5, 3, 2, 2)


@pytest.mark.parametrize("outside", ["", "weights.bin"], ids=["in one file", "beside the file"])
async def test_many_weights_lie_beside_the_graph_and_are_served(
    tmp_path: Path, large: NDArray[np.float32], outside: str
) -> None:
    path = written(tmp_path / "g.onnx", large, outside)
    assert bring(tmp_path, DESCRIBED) == 0
    bundle = tmp_path / "models" / "m" / "1"
    manifest = json.loads((bundle / "manifest.json").read_text())
    (graph,) = manifest["graphs"]
    weights = (bundle / "decoder.weights").read_bytes()
    assert graph["weights"] == {
        "path": "decoder.weights",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "size_bytes": str(len(weights)),
    }
    assert len(weights) == large.nbytes
    inside = onnx.load(bundle / "decoder.onnx", load_external_data=False).graph.initializer
    lying = {tensor.name for tensor in inside if tensor.data_location == onnx.TensorProto.EXTERNAL}
    assert lying == {"imported/large"}
    digest = hashlib.sha256(path.read_bytes())
    if outside:
        digest.update((tmp_path / outside).read_bytes())
    origin = json.loads(manifest["provenance"]["config_json"])
    assert origin["decoder"]["file_sha256"] == digest.hexdigest()
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        decoded = await client.decode("m", LATENTS)
    np.testing.assert_allclose(decoded.images, expected(large), rtol=0, atol=1e-6)


async def test_fewer_weights_lie_in_the_graph(tmp_path: Path, large: NDArray[np.float32]) -> None:
    """Among them some of more than a mebibyte, which are not read into the model before."""
    few = large[:100_000]
    written(tmp_path / "g.onnx", few)
    assert bring(tmp_path, DESCRIBED) == 0
    assert not list((tmp_path / "models" / "m" / "1").glob("*.weights"))
    async with running_server(tmp_path / "models") as server, AsyncClient(f"127.0.0.1:{server.server.port}") as client:
        decoded = await client.decode("m", LATENTS)
    np.testing.assert_allclose(decoded.images, expected(few), rtol=0, atol=1e-6)


def test_a_batch_that_was_fixed_is_freed_with_its_weights_outside(tmp_path: Path, large: NDArray[np.float32]) -> None:
    path = written(tmp_path / "g.onnx", large[:100_000])
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    assert bring(tmp_path, DESCRIBED) == 0
    manifest = json.loads((tmp_path / "models" / "m" / "1" / "manifest.json").read_text())
    assert "batch_rows" not in manifest["graphs"][0]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"location": "../w.bin"}, "'large' lies in '../w.bin', which is not beside the file or below"),
        ({"location": "absent.bin"}, "'large' lies in 'absent.bin', which is not there"),
        (
            {"location": "w.bin", "offset": "8", "length": "4800"},
            "'large' has 4800 bytes from 8 on in 'w.bin', which ends before",
        ),
    ],
)
def test_weights_that_are_not_where_the_file_says_are_refused(
    tmp_path: Path, capsys: Capture, large: NDArray[np.float32], place: dict[str, str], message: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = written(folder / "g.onnx", large[:100])
    model = onnx.load(path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "large")
    for target in (tmp_path, folder):
        (target / "w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    assert refusal(folder, capsys, DESCRIBED) == (1, f"decoder: {path}: {message}")


@pytest.mark.parametrize("content", [b"\x3a\xff\xff\xff\xff\xff\x01", b"\x3b" * 9, b"\xff" * 12])
def test_a_large_file_that_is_no_onnx_is_refused(tmp_path: Path, capsys: Capture, content: bytes) -> None:
    (tmp_path / "g.onnx").write_bytes(content + bytes(1 << 21))
    code, said = refusal(tmp_path, capsys, DESCRIBED)
    assert code == 1
    assert said.startswith(f"decoder: {tmp_path / 'g.onnx'}: not ONNX that can be used: ")
