"""The convolutional VAE of TensorFlow's tutorial, by tf2onnx's command from SavedModels; its decoder gives logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import shelf
import tensorflow as tf
from keras import layers

Array = np.ndarray[Any, Any]
_DIM = 16


def _widened(network: Any) -> Any:
    """The network with wider weights, and biases that are not zero."""
    drawn = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(2 * weight if len(weight.shape) > 1 else drawn.normal(0, 0.2, weight.shape))
    return network


def _export(network: Any, path: Path) -> None:
    saved = path.with_suffix("")
    network.export(str(saved), verbose=False)
    subprocess.run(
        [sys.executable, "-m", "tf2onnx.convert", "--saved-model", saved, "--output", path],
        check=True,
        capture_output=True,
    )


def cvae(folder: Path) -> None:
    """Mean and log-variance are the halves of one row, and the sigmoid is the caller's."""
    keras.utils.set_random_seed(0)
    encoder = _widened(
        keras.Sequential(
            [
                layers.InputLayer(shape=(28, 28, 1)),
                layers.Conv2D(32, 3, strides=2, activation="relu"),
                layers.Conv2D(64, 3, strides=2, activation="relu"),
                layers.Flatten(),
                layers.Dense(2 * _DIM),
            ]
        )
    )
    decoder = _widened(
        keras.Sequential(
            [
                layers.InputLayer(shape=(_DIM,)),
                layers.Dense(7 * 7 * 32, activation="relu"),
                layers.Reshape((7, 7, 32)),
                layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu"),
                layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
                layers.Conv2DTranspose(1, 3, padding="same"),
            ]
        )
    )
    _export(encoder, folder / "encoder.onnx")
    _export(decoder, folder / "decoder.onnx")

    def encode(pixels: Array) -> tuple[Array, ...]:
        halves = tf.split(encoder(pixels.transpose(0, 2, 3, 1)), num_or_size_splits=2, axis=1)
        return tuple(half.numpy() for half in halves)

    def draw(z: Array) -> Any:
        return tf.sigmoid(decoder(z)).numpy()

    shelf.write_autoencoder(folder, _CVAE, encode, draw, shelf.latents(_DIM), shelf.pictures(1, 28, 28))


_CVAE = f"""\
kind: vae
prior: standard_normal
latent_dim: {_DIM}
layout: nhwc
likelihood: bernoulli
decoder:
  file: decoder.onnx
  logits: output_0
encoder:
  file: encoder.onnx
  moments: output_0
family: CVAE of TensorFlow's tutorial
"""

if __name__ == "__main__":
    shelf.main({"tensorflow-cvae": cvae}, ("tensorflow_cpu", "keras", "tf2onnx", "onnx"))
