"""Small ONNX models written as text, imported and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray

from latentserve_server.bundle.bundle import read_bundle
from latentserve_training import commands

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "w": RANDOM.standard_normal((3, 12), dtype=np.float32),
    "v": RANDOM.standard_normal((12, 6), dtype=np.float32) / 4,
    "table": RANDOM.standard_normal((4, 12), dtype=np.float32),
    "lean": RANDOM.standard_normal((4, 6), dtype=np.float32),
    "four": np.array(4, np.float32),
    "turn": np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 2]], np.float32),
    "share": np.array(1e-7, np.float32),
    "low": np.array([-4.5, -12, -120], np.float32),
    "nought": np.array(0, np.float32),
    "most": np.array(255, np.float32),
    "zeros": np.zeros((3, 12), np.float32),
    "saturated": np.array([17.844, 17.857412, 17.868923, 17.87294, 17.89196, 17.89684] * 2, np.float32),
}
LATENTS = RANDOM.standard_normal((5, 3), dtype=np.float32)
IMAGES = RANDOM.random((5, 3, 2, 2), dtype=np.float32)
GAN: dict[str, Any] = {"kind": "gan", "latent_dim": 3, "decoder": {"file": "g.onnx"}}
VAE: dict[str, Any] = {**GAN, "kind": "vae", "encoder": {"file": "e.onnx", "mean": "mu", "log_variance": "s"}}
TANH = "g (float[N, 3] z) => (float[N, 3, 2, 2] x) { h = MatMul(z, w)\n y = Tanh(h)\n x = Reshape(y, shape) }"
SIGMOID = TANH.replace("Tanh", "Sigmoid")
LINEAR = TANH.replace("y = Tanh(h)\n x = Reshape(y, shape)", "x = Reshape(h, shape)")
ENCODER = (
    "e (float[N, 3, 2, 2] a) => (float[N, 3] mu, float[N, 3] s) "
    "{ r = Flatten(a)\n p = MatMul(r, v)\n mu, s = Split(p, halves) }"
)
POINTS = ENCODER.replace(", float[N, 3] s)", ")").replace(
    "mu, s = Split(p, halves)", "mu = Slice(p, zero1, three1, one1)"
)
"""The encoder of images to latents alone."""
CODED = (
    "g (int64[N, 2, 3] z) => (float[N, 3, 2, 2] x) { f = Flatten(z)\n e = Gather(table, f)\n"
    " h = ReduceMean<keepdims = 0>(e, one1)\n y = Tanh(h)\n x = Reshape(y, shape) }"
)
"""Six codes of four entries to images."""
CODER = (
    "e (float[N, 3, 2, 2] a) => (int64[N, 2, 3] c) { r = Flatten(a)\n p = MatMul(r, v)\n s = Sigmoid(p)\n"
    " t = Mul(s, four)\n i = Cast<to = 7>(t)\n c = Reshape(i, grid) }"
)
"""Images to six codes of four entries."""
SHAPES = {
    "shape": np.array([-1, 3, 2, 2]),
    "last": np.array([-1, 2, 2, 3]),
    "two": np.array([-1, 2, 3, 2]),
    "halves": np.array([3, 3]),
    "grid": np.array([-1, 2, 3]),
    "thousand": np.array([-1, 1200, 1, 1]),
}
SHAPES |= {"first": np.array([0]), "turns": np.array(2), "zero": np.array(0)}
SHAPES |= {"sixfold": np.array([-1, 6, 1, 1]), "sixth": np.array([-1, 1, 1, 6])}
SHAPES |= {"zero1": np.array([0]), "three1": np.array([3]), "one1": np.array([1])}
SHAPES |= {"always": np.array(True), "never": np.array(False), "half": np.array(0.5, np.float32)}


def write(path: Path, text: str, opset: int = 18) -> Path:
    """An ONNX file of the graph in onnx's textual syntax; Split is over axis 1."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'
    model = onnx.parser.parse_model(header + text.replace("Split(p", "Split<axis = 1>(p"))
    used = {name for node in model.graph.node for name in node.input}
    constants = {name: value for name, value in (WEIGHTS | SHAPES).items() if name in used}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, path)
    return path


def flat(text: str) -> str:
    """The graph without its last reshape: images as flat rows."""
    return text.replace("float[N, 3, 2, 2] x", "float[N, 12] x").replace("x = Reshape(y, shape)", "x = Identity(y)")


def conditional_decoder(form: str, looked_up: str, drawn: str = "Tanh") -> str:
    """A graph of latents z and labels c that adds what is looked up, a row a label, to what Tanh reads."""
    return (
        f"g (float[N, 3] z, {form}) => (float[N, 3, 2, 2] x) {{ h = MatMul(z, w)\n e = {looked_up}\n "
        f"m = Add(h, e)\n y = {drawn}(m)\n x = Reshape(y, shape) }}"
    )


def changed(text: str, old: str, new: str) -> str:
    """The graph with another piece of its text, which must be there."""
    assert old in text
    return text.replace(old, new)


def bring(folder: Path, description: dict[str, Any]) -> int:
    (folder / "model.yaml").write_text(yaml.safe_dump(description))
    return commands.import_model([str(folder / "model.yaml"), "--repository", str(folder / "models"), "--name", "m"])


def refusal(
    folder: Path, capsys: pytest.CaptureFixture[str], description: dict[str, Any], warned: bool = False
) -> tuple[int, str]:
    """Exit code and words of an import that fails; they are one line, after a warning's, and nothing is published."""
    code = bring(folder, description)
    line = capsys.readouterr().err
    if warned:
        warning, line = line.split("\n", 1)
        assert warning.startswith("latentserve-import: warning: ")
    assert line.startswith("latentserve-import: error: ")
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert not list(folder.glob("models/m/*"))
    return code, line.removeprefix("latentserve-import: error: ").removesuffix("\n")


def run(folder: Path, role: str, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What the imported graph gives, having been read as the server reads it."""
    bundle = folder / "models" / "m" / "1"
    read_bundle(bundle)
    session = onnxruntime.InferenceSession(bundle / f"{role}.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    fed = {value.name: rows for value, rows in zip(session.get_inputs(), inputs, strict=True)}
    return dict(zip(names, session.run(names, fed), strict=True))
