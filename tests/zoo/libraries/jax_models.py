"""A VAE of flax's linen, a VAE of flax's nnx and a generator of equinox, exported by jax2onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import shelf
from flax import linen, nnx
from jax2onnx import to_onnx

Array = Any


def _export(function: Callable[..., Any], shapes: list[tuple[Any, ...]], path: Path) -> None:
    to_onnx(function, inputs=shapes, return_mode="file", output_path=str(path))


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda inputs: jax.tree.map(np.asarray, function(jnp.asarray(inputs)))


class LinenEncoder(linen.Module):
    """Pictures, channels last, to mean and log-variance."""

    @linen.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = linen.relu(linen.Conv(16, (3, 3), strides=(2, 2))(x))
        x = linen.relu(linen.Conv(32, (3, 3), strides=(2, 2))(x))
        x = linen.relu(linen.Dense(32)(x.reshape(x.shape[0], -1)))
        return linen.Dense(8)(x), linen.Dense(8)(x)


class LinenDecoder(linen.Module):
    """Latents to pictures, channels last."""

    @linen.compact
    def __call__(self, z: Array) -> Array:
        x = linen.relu(linen.Dense(7 * 7 * 32)(z)).reshape(z.shape[0], 7, 7, 32)
        x = linen.relu(linen.ConvTranspose(16, (3, 3), strides=(2, 2))(x))
        x = linen.GroupNorm(num_groups=4)(x)
        return linen.sigmoid(linen.ConvTranspose(1, (3, 3), strides=(2, 2))(x))


def _widened(variables: Any) -> Any:
    """The variables with seeded vectors, which begin as zeros and ones."""
    leaves, tree = jax.tree.flatten(variables)
    drawn = np.random.default_rng(0)
    return jax.tree.unflatten(
        tree,
        [
            leaf * 1.5 if leaf.ndim > 1 else leaf + drawn.normal(0, 0.2, leaf.shape).astype(np.float32)
            for leaf in leaves
        ],
    )


def _write_vae(folder: Path, encode: Any, draw: Any, dim: int, sides: tuple[Any, ...]) -> None:
    _export(encode, [("batch", *sides)], folder / "encoder.onnx")
    _export(draw, [("batch", dim)], folder / "decoder.onnx")
    mean, log_variance = shelf.output_names(folder / "encoder.onnx")
    layout = "layout: nhwc\n" * (len(sides) == 3)
    shelf.write_autoencoder(
        folder,
        _VAE.format(dim=dim, layout=layout, mean=mean, log_variance=log_variance),
        lambda pixels: _on_arrays(encode)(pixels.reshape(-1, *sides)),
        _on_arrays(draw),
        shelf.latents(dim),
        shelf.pictures(1, 28, 28),
    )


def linen_vae(folder: Path) -> None:
    encoder, decoder, key = LinenEncoder(), LinenDecoder(), jax.random.key(0)
    weights = [
        _widened(module.init(key, jnp.zeros(shape))) for module, shape in ((encoder, (1, 28, 28, 1)), (decoder, (1, 8)))
    ]
    _write_vae(folder, lambda x: encoder.apply(weights[0], x), lambda z: decoder.apply(weights[1], z), 8, (28, 28, 1))


class NnxVae(nnx.Module):
    """The dense VAE of flax's examples: 784-500-20 and back, flat pictures."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.fc1, self.mean, self.log_variance = (
            nnx.Linear(*sizes, rngs=rngs) for sizes in ((784, 500), (500, 20), (500, 20))
        )
        self.fc2, self.fc3 = nnx.Linear(20, 500, rngs=rngs), nnx.Linear(500, 784, rngs=rngs)

    def encode(self, x: Array) -> tuple[Array, Array]:
        x = nnx.relu(self.fc1(x))
        return self.mean(x), self.log_variance(x)

    def draw(self, z: Array) -> Array:
        return nnx.sigmoid(self.fc3(nnx.relu(self.fc2(3 * z))))


def nnx_vae(folder: Path) -> None:
    model = NnxVae(nnx.Rngs(0))
    _write_vae(folder, model.encode, model.draw, 20, (784,))


class EquinoxGenerator(equinox.Module):
    """One latent to one picture, channels first, as equinox writes networks; a batch is a vmap."""

    dense: equinox.nn.Linear
    up: list[equinox.nn.ConvTranspose2d]
    last: equinox.nn.Conv2d

    def __init__(self, key: Any) -> None:
        first, second, third, fourth = jax.random.split(key, 4)
        self.dense = equinox.nn.Linear(48, 32 * 8 * 8, key=first)
        self.up = [
            equinox.nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1, key=second),
            equinox.nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1, key=third),
        ]
        self.last = equinox.nn.Conv2d(16, 3, 3, padding=1, key=fourth)

    def __call__(self, z: Array) -> Array:
        x = jax.nn.gelu(self.dense(3 * z)).reshape(32, 8, 8)
        for layer in self.up:
            x = jax.nn.silu(3 * layer(x))
        return jnp.tanh(3 * self.last(x))


def equinox_gan(folder: Path) -> None:
    draw = jax.vmap(EquinoxGenerator(jax.random.key(0)))
    _export(draw, [("batch", 48)], folder / "decoder.onnx")
    z = shelf.latents(48)
    shelf.write(folder, _GAN, latents=z, images=_on_arrays(draw)(z))


_VAE = """\
kind: vae
prior: standard_normal
latent_dim: {dim}
{layout}image_shape: [1, 28, 28]
likelihood: bernoulli
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: {mean}
  log_variance: {log_variance}
family: flax VAE
"""
_GAN = """\
kind: gan
latent_dim: 48
image_range: [-1, 1]
decoder:
  file: decoder.onnx
family: equinox generator
"""


if __name__ == "__main__":
    shelf.main(
        {"flax-linen-vae": linen_vae, "flax-nnx-vae": nnx_vae, "equinox-gan": equinox_gan},
        ("jax", "flax", "equinox", "jax2onnx", "onnx"),
    )
