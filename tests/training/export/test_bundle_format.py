"""The example of docs/bundle-format.md is a bundle by the same checks as the exporter's own."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from google.protobuf.json_format import Parse
from safetensors.numpy import load_file
from torch import nn

from latentserve.v1 import bundle_pb2
from latentserve_training.export.conformance import check_graph
from latentserve_training.export.graphs import TorchPlan

PAGE = Path(__file__).parents[3] / "docs" / "bundle-format.md"


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by_hand")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", example], cwd=folder, check=True)
    return folder / "models" / "by-hand" / "1"


def test_its_manifest_is_one_and_names_every_file(by_hand: Path) -> None:
    manifest = Parse((by_hand / "manifest.json").read_text(), bundle_pb2.Manifest())
    files = [manifest.golden, *(graph.file for graph in manifest.graphs)]
    assert {file.path for file in files} | {"manifest.json"} == {path.name for path in by_hand.iterdir()}
    for file in files:
        content = (by_hand / file.path).read_bytes()
        assert (file.size_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_its_graph_passes_the_exporter_s_checks_and_reproduces_its_golden_rows(by_hand: Path) -> None:
    latents = {"latent": torch.zeros(64, 3).numpy()}
    # The identity stands for the model that the graph came from, which checks without a run do not ask for.
    plan = TorchPlan(role="decoder", module=nn.Identity(), example=latents, outputs=("image", "image_uint8"))
    check_graph(by_hand / "decoder.onnx", plan)
    session = onnxruntime.InferenceSession(by_hand / "decoder.onnx", providers=["CPUExecutionProvider"])
    golden = load_file(by_hand / "golden.safetensors")
    image, pixels = session.run(["image", "image_uint8"], {"latent": golden["decoder.latent"]})
    np.testing.assert_allclose(image, golden["decoder.image"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(pixels, golden["decoder.image_uint8"])
