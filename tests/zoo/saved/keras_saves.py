"""Keras models with seeded weights, by Model.save, and what Keras computes with them, on any of its backends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import expected
import keras
import numpy as np
import shelf
from keras import Model, layers
from keras_models import _seeded as seeded

Array = np.ndarray[Any, Any]


def run(model: Model, *inputs: Array) -> Any:
    found = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
    convert = keras.ops.convert_to_numpy
    return [convert(one) for one in found] if isinstance(found, (list, tuple)) else convert(found)


def first(pictures: Array) -> Array:
    """Channels first."""
    return pictures.transpose(0, 3, 1, 2)


def vae(folder: Path) -> None:
    """The convolutional VAE of keras.io, whose encoder is saved without the layer that draws."""
    pixels = keras.Input((28, 28, 1), name="pixels")
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(pixels)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    outputs = [layers.Dense(8, name="z_mean")(x), layers.Dense(8, name="z_log_var")(x)]
    encoder = seeded(Model(pixels, outputs, name="encoder"))
    z = keras.Input((8,), name="z")
    x = layers.Reshape((7, 7, 32))(layers.Dense(7 * 7 * 32, activation="relu")(z))
    x = layers.Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(16, 3, activation="relu", strides=2, padding="same")(x)
    decoder = seeded(Model(z, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x), name="decoder"))
    encoder.save(folder / "encoder.keras")
    decoder.save(folder / "saved.keras")
    latents, pictures = shelf.latents(8), shelf.pictures(1, 28, 28)
    mean, log_variance = run(encoder, pictures.transpose(0, 2, 3, 1))
    expected.write(
        folder,
        latents=latents,
        images=first(run(decoder, latents)),
        pixels=pictures,
        mean=mean,
        log_variance=log_variance,
        reconstruction=first(run(decoder, mean)),
    )


def gan(folder: Path) -> None:
    """The DCGAN of keras.io, a Sequential model."""
    model = seeded(
        keras.Sequential(
            [
                keras.Input((32,)),
                layers.Dense(8 * 8 * 16),
                layers.Reshape((8, 8, 16)),
                layers.Conv2DTranspose(32, 4, strides=2, padding="same"),
                layers.BatchNormalization(),
                layers.LeakyReLU(negative_slope=0.2),
                layers.Conv2DTranspose(32, 4, strides=2, padding="same"),
                layers.LeakyReLU(negative_slope=0.2),
                layers.Conv2D(3, 5, padding="same", activation="sigmoid"),
            ],
            name="generator",
        )
    )
    model.save(folder / "saved.keras")
    latents = shelf.latents(32)
    expected.write(folder, latents=latents, images=first(run(model, latents)))


def labelled_gan(folder: Path) -> None:
    """A generator of pixels from -1 to 1 that takes numbers of labels, which it embeds."""
    label, z = keras.Input((1,), dtype="int32", name="label"), keras.Input((32,), name="z")
    embedded = layers.Flatten()(layers.Embedding(10, 16)(label))
    x = layers.Dense(7 * 7 * 16)(layers.Concatenate()([z, embedded]))
    x = layers.Reshape((7, 7, 16))(layers.LeakyReLU(negative_slope=0.2)(x))
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(16, 3, padding="same")(layers.UpSampling2D(2)(x)))
    x = layers.Conv2D(1, 3, padding="same")(layers.UpSampling2D(2)(x))
    model = seeded(Model([label, z], layers.Activation("tanh")(x), name="generator"))
    model.save(folder / "saved.keras")
    latents, labels = shelf.latents(32), shelf.labels(10)
    images = first(run(model, labels[:, None].astype(np.int32), latents))
    expected.write(folder, latents=latents, labels=labels, images=(images + 1) / 2)


class Sampling(layers.Layer):
    """The layer of keras.io that draws, which no file brings."""

    def call(self, inputs: Any) -> Any:
        return inputs


def encoders(place: Path) -> None:
    """Encoders that cannot be taken: with code of their own, and with outputs that nobody named."""

    def save(name: str, *outputs: Any) -> None:
        Model(pixels, list(outputs)).save(place / f"{name}.keras")

    pixels = keras.Input((28, 28, 1))
    x = layers.Flatten()(pixels)
    mean, log_variance = layers.Dense(8, name="mean")(x), layers.Dense(8, name="log_var")(x)
    save("lambda", mean, layers.Lambda(lambda rows: rows + 1)(log_variance))
    save("custom-layer", mean, log_variance, Sampling()(mean))
    save("moments", layers.Dense(16, name="moments")(x))
    save("unnamed", layers.Dense(8, name="dense")(x), layers.Dense(8, name="dense_1")(x))


def main(place: Path) -> None:
    encoders(place)
    for name, write in {"vae": vae, "gan": gan, "labelled": labelled_gan}.items():
        (place / name).mkdir(parents=True)
        write(place / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
