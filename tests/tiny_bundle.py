"""Real model bundles, small enough to read: linear VAEs and GANs with seeded weights, written without torch.

A `TinyModel` knows its weights, so a test can say in numpy what the server must answer, and `write` puts the model's
bundle on disk. Damage is an edit: `write` hands the decoder, the golden rows and the manifest to functions that may
spoil them before the next stage sees them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper
import onnx.parser
import onnxruntime
from google.protobuf.json_format import MessageToJson
from numpy.typing import NDArray

from latentserve.v1 import bundle_pb2 as pb
from latentserve.v1 import tensor_pb2

Float = NDArray[Any]
Golden = dict[str, NDArray[Any]]
OPSET = 18
GOLDEN_ROWS = 3
FRAGILE_LIMIT = 8
"""A fragile decoder fails for latents whose first value is this large."""


def _leave(_: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A model and its weights. Everything follows from the fields, so equal fields are equal models."""

    kind: str = "vae"
    """"vae" or "gan"."""
    latent_dim: int = 3
    channels: int = 1
    height: int = 4
    width: int = 5
    seed: int = 0
    conv: bool = False
    """Whether the decoder ends in two convolutions; `logits` knows the linear decoder only."""
    fragile: bool = False
    """Whether the decoder fails where a latent's first value is FRAGILE_LIMIT or more."""
    slow: bool = False
    """Whether the decoder spends as many turns in a loop as the largest first value of its latents says."""
    spread: float = 1.0
    """Scale of the encoder's weights; 0.01 brings every posterior near the prior."""
    weights: dict[str, Float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)

        def normal(*shape: int, scale: float = 1.0) -> Float:
            return (scale * random.standard_normal(shape)).astype(np.float32)

        weights = {
            "mean_weight": normal(self.pixels, self.latent_dim, scale=self.spread * self.pixels**-0.5),
            "mean_bias": normal(self.latent_dim, scale=self.spread),
            "log_variance_weight": normal(self.pixels, self.latent_dim, scale=self.spread * self.pixels**-0.5),
            "log_variance_bias": normal(self.latent_dim, scale=0.5 * self.spread),
            "decoder_weight": normal(self.latent_dim, self.pixels, scale=1.5 * self.latent_dim**-0.5),
            "decoder_bias": normal(self.pixels, scale=0.5),
            "conv1": normal(8, self.channels, 3, 3, scale=0.5),
            "conv2": normal(self.channels, 8, 3, 3, scale=0.2),
        }
        if self.fragile or self.slow:
            weights["decoder_weight"][0] = 0  # the first value says what goes wrong, and is not to be seen
        object.__setattr__(self, "weights", weights)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.height, self.width

    @property
    def pixels(self) -> int:
        """Values of an image."""
        return math.prod(self.shape)

    def posterior(self, images: Float) -> tuple[Float, Float]:
        """Mean and log variance, float64 [n, latent_dim], of images [n, channels, height, width]."""
        rows = images.reshape(len(images), -1).astype(np.float64)
        mean = rows @ self.weights["mean_weight"] + self.weights["mean_bias"]
        return mean, rows @ self.weights["log_variance_weight"] + self.weights["log_variance_bias"]

    def logits(self, latents: Float) -> Float:
        """The linear decoder's logits, float64 [n, channels, height, width], of latents [n, latent_dim]."""
        rows = latents.astype(np.float64) @ self.weights["decoder_weight"] + self.weights["decoder_bias"]
        return rows.reshape(-1, *self.shape)

    def images(self, latents: Float) -> Float:
        """The linear decoder's images, float64 in [0, 1]."""
        return np.asarray(1 / (1 + np.exp(-self.logits(latents))))

    def random_images(self, rows: int, seed: int = 0) -> NDArray[np.uint8]:
        """Images of random pixels, uint8 [rows, channels, height, width]."""
        return np.random.default_rng(seed).integers(0, 256, (rows, *self.shape), np.uint8)

    def write(
        self,
        directory: Path,
        *,
        edit_decoder: Callable[[onnx.ModelProto], None] = _leave,
        edit_golden: Callable[[Golden], None] = _leave,
        edit_manifest: Callable[[pb.Manifest], None] = _leave,
    ) -> Path:
        """Write the bundle into `directory`, which is made; returns it. Each edit may spoil what it is handed."""
        directory.mkdir(parents=True)
        graphs = {"decoder": self._decoder()} | ({"encoder": self._encoder()} if self.kind == "vae" else {})
        golden = _golden(graphs, self.seed)
        (edited := onnx.ModelProto()).CopyFrom(graphs["decoder"])
        edit_decoder(edited)
        edit_golden(golden)
        for role, model in (graphs | {"decoder": edited}).items():
            (directory / f"{role}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        np.savez(directory / "golden.npz", **golden)  # type: ignore[arg-type]
        (directory / "CARD.md").write_text("# A tiny model\n")
        manifest = self._manifest(directory, graphs)
        edit_manifest(manifest)
        (directory / "manifest.json").write_text(MessageToJson(manifest, preserving_proto_field_name=True))
        return directory

    def _encoder(self) -> onnx.ModelProto:
        image, latent = "float[batch, {}, {}, {}]".format(*self.shape), f"float[batch, {self.latent_dim}]"
        return self._graph(
            f"({image} image) => ({latent} mean, {latent} log_variance)",
            "rows = Flatten(image)",
            *(f"{name} = Gemm(rows, {name}_weight, {name}_bias)" for name in ("mean", "log_variance")),
        )

    def _decoder(self) -> onnx.ModelProto:
        image = "[batch, {}, {}, {}]".format(*self.shape)
        outputs = f"float{image} image, uint8{image} image_uint8" + (f", float{image} logits" * (self.kind == "vae"))
        return self._graph(
            f"(float[batch, {self.latent_dim}] latent) => ({outputs})",
            "rows = Gemm(latent, decoder_weight, decoder_bias)\n grid = Reshape(rows, image_shape)",
            _CONVOLUTIONS if self.conv else "convolved = Identity(grid)",
            _FRAGILE if self.fragile else "looked_up = Identity(convolved)",
            _SLOW if self.slow else "logits = Identity(looked_up)",
            "image = Sigmoid(logits)\n scaled = Mul(image, levels)\n rounded = Round(scaled)",
            "image_uint8 = Cast<to = 2>(rounded)",
        )

    def _graph(self, signature: str, *nodes: str) -> onnx.ModelProto:
        text = f'<ir_version: 10, opset_import: ["": {OPSET}]> tiny {signature} {{ {" ".join(nodes)} }}'
        model: onnx.ModelProto = onnx.parser.parse_model(text)
        constants = self.weights | _CONSTANTS | {"image_shape": np.array([-1, *self.shape], np.int64)}
        for name, array in constants.items():
            if re.search(rf"\b{name}\b", text):
                model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _manifest(self, directory: Path, graphs: dict[str, onnx.ModelProto]) -> pb.Manifest:
        vae = self.kind == "vae"
        return pb.Manifest(
            format_version=1,
            name="tiny",
            kind=pb.MODEL_KIND_VAE if vae else pb.MODEL_KIND_GAN,
            latent=pb.LatentSpec(dim=self.latent_dim, prior=pb.PRIOR_STANDARD_NORMAL),
            image=pb.ImageSpec(channels=self.channels, height=self.height, width=self.width, max_value=1),
            likelihood=pb.LIKELIHOOD_BERNOULLI if vae else pb.LIKELIHOOD_UNSPECIFIED,
            graphs=[
                pb.Graph(
                    role=f"GRAPH_ROLE_{role.upper()}",
                    file=_describe(directory / f"{role}.onnx"),
                    inputs=[_tensor_spec(value) for value in model.graph.input],
                    outputs=[_tensor_spec(value) for value in model.graph.output],
                    opset=OPSET,
                )
                for role, model in sorted(graphs.items())
            ],
            golden=_describe(directory / "golden.npz"),
            files=[_describe(directory / "CARD.md")],
            metrics={"test_nats": 12.5},
        )


def _golden(graphs: dict[str, onnx.ModelProto], seed: int) -> Golden:
    golden: Golden = {}
    for role, model in graphs.items():
        spec = _tensor_spec(model.graph.input[0])
        rows = np.random.default_rng(seed).random((GOLDEN_ROWS, *spec.shape), np.float32)
        names = [value.name for value in model.graph.output]
        results = onnxruntime.InferenceSession(model.SerializeToString()).run(names, {spec.name: rows})
        golden |= {f"{role}.{name}": array for name, array in zip([spec.name, *names], [rows, *results], strict=True)}
    return golden


def _describe(path: Path) -> pb.File:
    data = path.read_bytes()
    return pb.File(path=path.name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


_CONSTANTS: dict[str, NDArray[Any]] = {
    "levels": np.array(255, np.float32),
    "zero": np.array(0, np.float32),
    "first": np.array([0], np.int64),
    "table": np.zeros((FRAGILE_LIMIT, 1, 1), np.float32),
    "state": np.eye(64, dtype=np.float32),
    "always": np.array(True),
}

_CONVOLUTIONS = """
    hidden = Conv<pads = [1, 1, 1, 1]>(grid, conv1)
    active = Relu(hidden)
    convolved = Conv<pads = [1, 1, 1, 1]>(active, conv2)
"""

# Adds the zero that a table holds at the index in the first column: out of the table's range, the graph does not run.
_FRAGILE = """
    index_column = Gather<axis = 1>(latent, first)
    indices = Cast<to = 7>(index_column)
    entries = Gather(table, indices)
    looked_up = Add(convolved, entries)
"""

# Adds zero, after a loop of as many turns as the largest value of the first column.
_SLOW = """
    turns_column = Gather<axis = 1>(latent, first)
    most = ReduceMax<keepdims = 0>(turns_column)
    turns = Cast<to = 7>(most)
    final = Loop(turns, always, state) <
        body = turn (int64 i, bool go_on, float[64, 64] carried) => (bool go_on_, float[64, 64] turned) {
            turned = MatMul(carried, state)
            go_on_ = Identity(go_on)
        }
    >
    zeros = Mul(final, zero)
    nothing = ReduceMax<keepdims = 0>(zeros)
    logits = Add(looked_up, nothing)
"""


def _tensor_spec(value: onnx.ValueInfoProto) -> pb.TensorSpec:
    tensor = value.type.tensor_type
    dtype = tensor_pb2.DTYPE_UINT8 if tensor.elem_type == onnx.TensorProto.UINT8 else tensor_pb2.DTYPE_FLOAT32
    return pb.TensorSpec(name=value.name, dtype=dtype, shape=[axis.dim_value for axis in tensor.shape.dim[1:]])
