"""A ladder VAE of haiku, exported by jax2onnx: the lower latents are drawn from the upper ones and noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import haiku
import jax
import jax.numpy as jnp
import numpy as np
import shelf
from jax2onnx import to_onnx

Array = Any
_DIM, _LOWER = 8, (7, 7, 4)


def _encode(x: Array) -> tuple[Array, Array]:
    """The posterior of the upper latents: mean and standard deviation."""
    x = jax.nn.relu(haiku.Conv2D(16, 3, stride=2)(x))
    x = haiku.Flatten()(jax.nn.relu(haiku.Conv2D(16, 3, stride=2)(x)))
    return haiku.Linear(_DIM)(x), jax.nn.softplus(haiku.Linear(_DIM)(x))


def _draw(upper: Array, noise: Array) -> Array:
    """p(lower | upper), drawn with the noise, and p(x | lower).."""
    x = jax.nn.relu(haiku.Linear(7 * 7 * 16)(upper)).reshape(-1, 7, 7, 16)
    x = jax.nn.relu(haiku.LayerNorm(-1, create_scale=True, create_offset=True)(haiku.Conv2D(16, 3)(x)))
    lower = haiku.Conv2D(4, 1)(x) + jax.nn.softplus(haiku.Conv2D(4, 1)(x)) * noise
    for _ in range(2):
        lower = jax.nn.relu(haiku.Conv2D(16, 3)(lower.repeat(2, axis=1).repeat(2, axis=2)))
    return jax.nn.sigmoid(haiku.Conv2D(1, 3)(lower))


def _seeded(function: Any, *shapes: tuple[int, ...]) -> Any:
    """The function with seeded weights, somewhat wider than at the start."""
    network = haiku.without_apply_rng(haiku.transform(function))
    weights = network.init(jax.random.key(0), *(jnp.zeros((1, *shape)) for shape in shapes))
    weights = jax.tree.map(lambda leaf: 2 * leaf if leaf.ndim > 1 else leaf, weights)
    return lambda *inputs: network.apply(weights, *inputs)


def ladder_vae(folder: Path) -> None:
    encode, draw = _seeded(_encode, (28, 28, 1)), _seeded(_draw, (_DIM,), _LOWER)
    for function, shapes, name in ((encode, [(28, 28, 1)], "encoder"), (draw, [(_DIM,), _LOWER], "decoder")):
        path = str(folder / f"{name}.onnx")
        to_onnx(function, inputs=[("batch", *shape) for shape in shapes], return_mode="file", output_path=path)
    mean_name, deviation_name = shelf.output_names(folder / "encoder.onnx")
    z, pixels, noise = shelf.latents(_DIM), shelf.pictures(1, 28, 28), shelf.latents(*_LOWER, stream=3)
    mean, deviation = map(np.asarray, encode(pixels.transpose(0, 2, 3, 1)))

    def of_seed_0(upper: Any) -> Any:
        """What is drawn of given latents: with the noise of seed 0."""
        return np.asarray(draw(upper, np.broadcast_to(noise[:1], (len(upper), *_LOWER))))

    shelf.write(
        folder,
        _LADDER.format(mean=mean_name, deviation=deviation_name),
        latents=z,
        images=np.asarray(draw(z, noise)),
        decoded=of_seed_0(z),
        pixels=pixels,
        mean=mean,
        log_variance=2 * np.log(deviation.astype(np.float64)),
        reconstruction=of_seed_0(mean),
    )


_LADDER = f"""\
kind: vae
prior: standard_normal
latent_dim: {_DIM}
likelihood: bernoulli
decoder:
  file: decoder.onnx
  latent: in_0
  noise: [in_1]
encoder:
  file: encoder.onnx
  mean: {{mean}}
  standard_deviation: {{deviation}}
family: ladder VAE of haiku
"""

if __name__ == "__main__":
    shelf.main({"haiku-ladder-vae": ladder_vae}, ("jax", "dm-haiku", "jax2onnx", "onnx"))
