"""Keras models in the shapes of keras.io's examples, exported by Keras itself from the backend in KERAS_BACKEND."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import shelf
from keras import Model, layers

_BACKEND = keras.config.backend()
_CONVERTERS = {
    "torch": ("torch", "onnxscript"),
    "jax": ("jax", "jax2onnx"),
    "tensorflow": ("tensorflow_cpu", "tf2onnx"),
}


def _seeded(model: Model) -> Model:
    """The model with seeded weights of an ordinary size, and statistics that are not those of the start."""
    drawn = np.random.default_rng(0)
    for weight in model.weights:
        shape, name = tuple(weight.shape), weight.path.rpartition("/")[2]
        if len(shape) >= 2:
            fan = (
                np.prod(shape)
                / shape[-2 if "transpose" in weight.path else -1]
                / (4 if "transpose" in weight.path else 1)
            )
            value = drawn.normal(0, (2 / fan) ** 0.5, shape)
        elif "variance" in name or "gamma" in name:
            value = drawn.uniform(0.5, 1.5, shape)
        else:
            value = drawn.normal(0, 0.2, shape)
        weight.assign(value.astype(np.float32))
    return model


def _run(model: Model, *inputs: Any) -> Any:
    given = inputs[0] if len(inputs) == 1 else list(inputs)
    found = model(given, training=False)
    convert = keras.ops.convert_to_numpy
    return tuple(map(convert, found)) if isinstance(found, (list, tuple)) else convert(found)


def _export(model: Model, path: Path) -> None:
    model([keras.ops.zeros((1, *value.shape[1:])) for value in model.inputs])  # Keras exports what has been called
    model.export(str(path), format="onnx", verbose=False)


def vae(folder: Path) -> None:
    """The convolutional VAE of keras.io, without the layer that draws: channels last, logits inside."""
    pixels = keras.Input((28, 28, 1), name="pixels")
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(pixels)
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    z_mean, z_log_var = layers.Dense(8, name="z_mean")(x), layers.Dense(8, name="z_log_var")(x)
    encoder = _seeded(Model(pixels, [z_mean, z_log_var], name="encoder"))
    z = keras.Input((8,), name="z")
    x = layers.Reshape((7, 7, 32))(layers.Dense(7 * 7 * 32, activation="relu")(z))
    x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    decoder = _seeded(Model(z, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x), name="decoder"))
    _export(encoder, folder / "encoder.onnx")
    _export(decoder, folder / "decoder.onnx")
    mean, log_variance = shelf.output_names(folder / "encoder.onnx")
    shelf.write_autoencoder(
        folder,
        _VAE.format(mean=mean, log_variance=log_variance),
        lambda pixels: _run(encoder, pixels.transpose(0, 2, 3, 1)),
        lambda latents: _run(decoder, latents),
        shelf.latents(8),
        shelf.pictures(1, 28, 28),
    )


def gan(folder: Path) -> None:
    """The DCGAN of keras.io: latents of 64 to pictures of 32x32 in [0, 1]."""
    z = keras.Input((64,), name="z")
    x = layers.Reshape((8, 8, 16))(layers.Dense(8 * 8 * 16)(z))
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2DTranspose(32, 4, strides=2, padding="same")(x))
    x = layers.BatchNormalization()(x)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2DTranspose(32, 4, strides=2, padding="same")(x))
    model = _seeded(Model(z, layers.Conv2D(3, 5, padding="same", activation="sigmoid")(x), name="generator"))
    _export(model, folder / "decoder.onnx")
    latents = shelf.latents(64)
    shelf.write(folder, _GAN, latents=latents, images=_run(model, latents))


def conditional_gan(folder: Path) -> None:
    """The conditional GAN of keras.io with its labels as one-hot rows beside the latents, and UpSampling2D.

    On JAX both enlarge by the nearest pixel, as jax.image.resize cannot be exported for a batch that varies.
    """
    z, label = keras.Input((32,), name="z"), keras.Input((10,), name="label")
    x = layers.Dense(7 * 7 * 16)(layers.Concatenate()([z, label]))
    x = layers.Reshape((7, 7, 16))(layers.LeakyReLU(negative_slope=0.2)(x))
    x = layers.UpSampling2D(2, interpolation="nearest" if _BACKEND == "jax" else "bilinear")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(16, 3, padding="same")(x))
    x = layers.UpSampling2D(2)(x)
    model = _seeded(Model([z, label], layers.Conv2D(1, 3, padding="same", activation="tanh")(x), name="generator"))
    _export(model, folder / "decoder.onnx")
    latents, labels = shelf.latents(32), shelf.labels(10)
    rows = np.eye(10, dtype=np.float32)[labels]
    shelf.write(folder, _CONDITIONAL, latents=latents, labels=labels, images=_run(model, latents, rows))


_VAE = """\
kind: vae
prior: standard_normal
latent_dim: 8
layout: nhwc
image_shape: [1, 28, 28]
likelihood: bernoulli
decoder:
  file: decoder.onnx
encoder:
  file: encoder.onnx
  mean: '{mean}'
  log_variance: '{log_variance}'
family: Keras VAE
"""
_GAN = """\
kind: gan
latent_dim: 64
layout: nhwc
image_shape: [3, 32, 32]
decoder:
  file: decoder.onnx
family: Keras DCGAN
"""
_CONDITIONAL = """\
kind: gan
latent_dim: 32
layout: nhwc
image_shape: [1, 28, 28]
image_range: [-1, 1]
labels: 10
decoder:
  file: decoder.onnx
  latent: z
  label: label
family: Keras conditional GAN
"""


if __name__ == "__main__":
    made: dict[str, Callable[[Path], None]] = {"vae": vae, "gan": gan, "conditional-gan": conditional_gan}
    models = {f"keras-{_BACKEND}-{name}": write for name, write in made.items()}
    shelf.main(models, ("keras", "onnx", *_CONVERTERS[_BACKEND]))
