"""Real model bundles, small enough to read: linear models of every kind with seeded weights, written without torch.

A `TinyModel` knows its weights, so a test can say in numpy what the server must answer, and `write` puts the model's
bundle on disk. Damage is an edit: `write` hands the decoder, the golden rows and the manifest to functions that may
spoil them before the next stage sees them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper
import onnx.parser
import tiny_graph
from google.protobuf.json_format import MessageToJson
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tiny_graph import golden_rows, nearest_code, shifted_by_label, tensor_spec

from latentserve.v1 import bundle_pb2 as pb

Float = NDArray[Any]
Golden = dict[str, NDArray[Any]]
OPSET = 18
LIKELIHOOD_OUTPUTS = {"bernoulli": "logits", "gaussian": "log_scale", "discretized_logistic": "log_scale"}


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a safetensors file; it holds arrays as they lie in memory, so they are laid in order first."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def _leave(_: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A model and its weights. Everything follows from the fields, so equal fields are equal models."""

    kind: str = "vae"
    """"vae", "gan", "autoencoder" or "vq"."""
    latent_dim: int = 3
    latent_shape: tuple[int, ...] = ()
    """The latent's own shape, whose product is latent_dim; none: a vector. No number of the model depends on it."""
    channels: int = 1
    height: int = 4
    width: int = 5
    seed: int = 0
    conv: bool = False
    """Whether the decoder ends in two convolutions; `logits` knows the linear decoder only."""
    fragile: bool = False
    """Whether the decoder fails where a latent's first value is FRAGILE_LIMIT or more."""
    slow: bool = False
    """Whether the decoder works longer the larger the first value of its latents is, up to a minute."""
    spread: float = 1.0
    """Scale of the encoder's weights; 0.01 brings every posterior near the prior."""
    labels: int = 0
    """Labels that the model knows; 0: it is not conditional."""
    likelihood: str = "bernoulli"
    """Of all but a GAN: "bernoulli", "gaussian" or "discretized_logistic", or of autoencoders "" for none."""
    components: int = 0
    """Components of the mixture prior; 0: there is none."""
    activation: str = "sigmoid"
    """What turns the decoder's logits into its image, one of PIXELS in tiny_graph."""
    direct: bool = False
    """Whether the logits are the latent's own values, over and over again."""
    quantiles: tuple[float, ...] = ()
    """The calibration's, in nats; none: it is not calibrated."""
    noises: int = 0
    """Noise inputs of the decoder, of the shape of an image, which its logits are the sum of, too."""
    psi: tuple[float, ...] = ()
    """Default, least and largest psi, which the weighted latent is multiplied by; none: the decoder takes none."""
    noise_dim: int = 0
    """Values that the prior graph takes; 0: there is none."""
    codes: int = 0
    """Entries of a "vq"'s codebook."""
    prior: str = ""
    """The default prior: "standard_normal", "mixture" or "graph"; "": the graph, an autoencoder's mixture, a VAE's or
    GAN's N(0, I), or none."""
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
            "log_scale_weight": normal(self.latent_dim, self.pixels, scale=0.3),
            "log_scale_bias": normal(self.pixels, scale=0.3) - np.float32(2),
            "mean_of_label": normal(self.labels, self.latent_dim),
            "rows_of_label": normal(self.labels, self.pixels),
            "prior_weight": normal(self.noise_dim, self.latent_dim),
            "prior_bias": normal(self.latent_dim),
            "latent_of_label": normal(self.labels, self.latent_dim),
            "codebook": np.sort(normal(self.codes)),
        }
        if self.fragile or self.slow:
            weights["decoder_weight"][0] = weights["log_scale_weight"][0] = (
                0  # the first value says what goes wrong, and is not to be seen
            )
        if self.direct:
            weights["decoder_weight"] = np.resize(
                np.eye(self.latent_dim, dtype=np.float32).T, (self.pixels, self.latent_dim)
            ).T
            weights["decoder_bias"][:] = 0
        object.__setattr__(self, "weights", weights)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, self.height, self.width

    @property
    def pixels(self) -> int:
        """Values of an image."""
        return math.prod(self.shape)

    def posterior(self, images: Float, labels: Float | None = None) -> tuple[Float, Float]:
        """Mean and log variance, float64 [n, latent_dim], of images [n, channels, height, width]."""
        rows = images.reshape(len(images), -1).astype(np.float64)
        mean = rows @ self.weights["mean_weight"] + self.weights["mean_bias"]
        mean = mean if labels is None else mean + self.weights["mean_of_label"][labels]
        return mean, rows @ self.weights["log_variance_weight"] + self.weights["log_variance_bias"]

    def logits(self, latents: Float, labels: Float | None = None) -> Float:
        """The linear decoder's logits, float64 [n, channels, height, width], of latents [n, latent_dim]."""
        rows = latents.astype(np.float64) @ self.weights["decoder_weight"] + self.weights["decoder_bias"]
        rows = rows if labels is None else rows + self.weights["rows_of_label"][labels]
        return rows.reshape(-1, *self.shape)

    def log_scale(self, latents: Float) -> Float:
        """The decoder's log scale, float64 [n, channels, height, width]."""
        rows = latents.astype(np.float64) @ self.weights["log_scale_weight"] + self.weights["log_scale_bias"]
        return rows.reshape(-1, *self.shape)

    def nearest_codes(self, values: Float) -> NDArray[np.int64]:
        """The entries of the codebook nearest to values [n, latent_dim]."""
        return np.asarray(np.argmin(np.abs(values[..., np.newaxis] - self.weights["codebook"]), axis=2))

    def embedded(self, codes: NDArray[np.int64]) -> Float:
        """The latents that codes [n, latent_dim] stand for."""
        return self.weights["codebook"][codes]

    def from_noise(self, noise: Float, labels: Float | None = None) -> Float:
        """What the prior graph makes of noise [n, noise_dim]: latents, float64 [n, latent_dim], or codes."""
        rows = noise.astype(np.float64) @ self.weights["prior_weight"] + self.weights["prior_bias"]
        rows = rows if labels is None else rows + self.weights["latent_of_label"][labels]
        return self.nearest_codes(rows) if self.codes else rows

    def mixture(self) -> Golden:
        """The arrays of the mixture prior."""
        random, k, d = np.random.default_rng(self.seed + 1), self.components, self.latent_dim
        weights = random.random(k) + 0.1
        factors = np.tril(random.normal(0, 0.3, (k, d, d)), -1) + np.eye(d) * random.uniform(0.2, 1, (k, 1, d))
        means = random.normal(0, 2, (k, d))
        return {
            "weights": weights / weights.sum(),
            "means": means.astype(np.float32),
            "factors": factors.astype(np.float32),
        }

    def images(self, latents: Float, labels: Float | None = None) -> Float:
        """The linear decoder's images, float64 in [0, 1]."""
        return np.asarray(1 / (1 + np.exp(-self.logits(latents, labels))))

    def random_images(self, rows: int, seed: int = 0) -> NDArray[np.uint8]:
        """Images of random pixels, uint8 [rows, channels, height, width]."""
        return np.random.default_rng(seed).integers(0, 256, (rows, *self.shape), np.uint8)

    def write(
        self,
        directory: Path,
        *,
        edit_decoder: Callable[[onnx.ModelProto], None] = _leave,
        edit_golden: Callable[[Golden], None] = _leave,
        edit_mixture: Callable[[Golden], None] = _leave,
        edit_manifest: Callable[[pb.Manifest], None] = _leave,
    ) -> Path:
        """Write the bundle into `directory`, which is made; returns it. Each edit may spoil what it is handed."""
        directory.mkdir(parents=True)
        graphs = {"decoder": self._decoder()}
        graphs |= {"encoder": self._encoder()} if self.kind != "gan" else {}
        graphs |= {"prior": self._prior()} if self.noise_dim else {}
        golden = golden_rows(graphs, self.seed, self.labels, self.codes)
        (edited := onnx.ModelProto()).CopyFrom(graphs["decoder"])
        edit_decoder(edited)
        edit_golden(golden)
        for role, model in (graphs | {"decoder": edited}).items():
            (directory / f"{role}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        save(directory / "golden.safetensors", golden)
        if self.components:
            edit_mixture(mixture := self.mixture())
            save(directory / "mixture.safetensors", mixture)
        (directory / "CARD.md").write_text("# A tiny model\n")
        manifest = self._manifest(directory, graphs)
        edit_manifest(manifest)
        (directory / "manifest.json").write_text(MessageToJson(manifest, preserving_proto_field_name=True))
        return directory

    def _encoder(self) -> onnx.ModelProto:
        image, latent = "float[batch, {}, {}, {}]".format(*self.shape), f"float[batch, {self.latent_dim}]"
        outputs = {
            "vae": f"{latent} mean, {latent} log_variance",
            "autoencoder": f"{latent} mean",
            "vq": f"int64[batch, {self.latent_dim}] codes",
        }
        return self._graph(
            f"({image} image{self._label}) => ({outputs[self.kind]})",
            "rows = Flatten(image)",
            "plain_mean = Gemm(rows, mean_weight, mean_bias)",
            shifted_by_label("mean", conditional=bool(self.labels)),
            "log_variance = Gemm(rows, log_variance_weight, log_variance_bias)" if self.kind == "vae" else "",
            nearest_code("mean") if self.codes else "",
        )

    def _prior(self) -> onnx.ModelProto:
        given = f"int64[batch, {self.latent_dim}] codes" if self.codes else f"float[batch, {self.latent_dim}] latent"
        return self._graph(
            f"(float[batch, {self.noise_dim}] noise{self._label}) => ({given})",
            "plain_latent = Gemm(noise, prior_weight, prior_bias)",
            shifted_by_label("latent", conditional=bool(self.labels)),
            nearest_code("latent") if self.codes else "",
        )

    def _decoder(self) -> onnx.ModelProto:
        image = "[batch, {}, {}, {}]".format(*self.shape)
        own = LIKELIHOOD_OUTPUTS.get(self.likelihood, "")
        gives_own = bool(own) and self.kind != "gan"
        outputs = f"float{image} image, uint8{image} image_uint8" + (f", float{image} {own}" * gives_own)
        taken = f"int64[batch, {self.latent_dim}] codes" if self.codes else f"float[batch, {self.latent_dim}] latent"
        noises = "".join(f", float{image} noise{number}" for number in range(self.noises))
        sums = [f"noisy{number + 1} = Add(noisy{number}, noise{number})" for number in range(self.noises)]
        return self._graph(
            f"({taken}{self._label}{noises}{', float[batch] psi' if self.psi else ''}) => ({outputs})",
            "latent = Gather(codebook, codes)" if self.codes else "",
            "psi_column = Unsqueeze(psi, one_axis)" if self.psi else "",
            f"styled = {'Mul(latent, psi_column)' if self.psi else 'Identity(latent)'}",
            "plain_rows = Gemm(styled, decoder_weight, decoder_bias)",
            shifted_by_label("rows", conditional=bool(self.labels)),
            "noisy0 = Reshape(rows, image_shape)",
            *sums,
            f"grid = Identity(noisy{self.noises})",
            tiny_graph.CONVOLUTIONS if self.conv else "convolved = Identity(grid)",
            tiny_graph.fragile() if self.fragile else "looked_up = Identity(convolved)",
            tiny_graph.slow() if self.slow else "logits = Identity(looked_up)",
            tiny_graph.LOG_SCALE if own == "log_scale" else "",
            tiny_graph.PIXELS[self.activation],
            "scaled = Mul(image, levels)\n rounded = Round(scaled)",
            "image_uint8 = Cast<to = 2>(rounded)",
        )

    @property
    def _label(self) -> str:
        return ", int64[batch] label" if self.labels else ""

    def _graph(self, signature: str, *nodes: str) -> onnx.ModelProto:
        text = f'<ir_version: 10, opset_import: ["": {OPSET}]> tiny {signature} {{ {" ".join(nodes)} }}'
        model: onnx.ModelProto = onnx.parser.parse_model(text)
        constants = self.weights | tiny_graph.CONSTANTS | {"image_shape": np.array([-1, *self.shape], np.int64)}
        for name, array in constants.items():
            if re.search(rf"\b{name}\b", text):
                model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        onnx.checker.check_model(model, full_check=True)
        return model

    @property
    def _default_prior(self) -> str:
        carried = "graph" if self.noise_dim else "mixture" if self.components and self.kind == "autoencoder" else ""
        plain = "standard_normal" if self.kind in ("vae", "gan") else "unspecified"
        return f"PRIOR_{(self.prior or carried or plain).upper()}"

    def _manifest(self, directory: Path, graphs: dict[str, onnx.ModelProto]) -> pb.Manifest:
        likelihood = "" if self.kind == "gan" else self.likelihood
        manifest = pb.Manifest(
            format_version=1,
            name="tiny",
            kind=f"MODEL_KIND_{self.kind.upper()}",
            latent=pb.LatentSpec(
                dim=self.latent_dim,
                shape=self.latent_shape,
                prior=self._default_prior,
                codes=self.codes,
                noise_dim=self.noise_dim,
            ),
            image=pb.ImageSpec(channels=self.channels, height=self.height, width=self.width, max_value=1),
            likelihood=f"LIKELIHOOD_{likelihood.upper() or 'UNSPECIFIED'}",
            graphs=[
                pb.Graph(
                    role=f"GRAPH_ROLE_{role.upper()}",
                    file=_describe(directory / f"{role}.onnx"),
                    inputs=[tensor_spec(value) for value in model.graph.input],
                    outputs=[tensor_spec(value) for value in model.graph.output],
                    opset=OPSET,
                )
                for role, model in sorted(graphs.items())
            ],
            golden=_describe(directory / "golden.safetensors"),
            files=[_describe(directory / "CARD.md")],
            metrics={"test_nats": 12.5},
        )
        if self.labels:
            manifest.labels.count = self.labels
        manifest.noises.extend(pb.NoiseInput(name=f"noise{n}", shape=self.shape) for n in range(self.noises))
        if self.psi:
            default, least, most = self.psi
            manifest.psi.CopyFrom(pb.Psi(default_value=default, min_value=least, max_value=most))
        if self.quantiles:
            manifest.calibration.CopyFrom(pb.Calibration(negative_elbo_quantiles=self.quantiles, images=500))
        if self.components:
            mixture = pb.Mixture(components=self.components, file=_describe(directory / "mixture.safetensors"))
            manifest.latent.mixture.CopyFrom(mixture)
        return manifest


def _describe(path: Path) -> pb.File:
    data = path.read_bytes()
    return pb.File(path=path.name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
