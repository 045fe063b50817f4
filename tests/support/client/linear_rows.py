"""The linear model's arithmetic: the encoder gives the first LATENT values, the decoder is sigmoid(z W_version).

A row is the same to the bit in every company, as the contract says. NumPy does not promise this of products, functions
and sums over many rows, whose code depends on the shape and on the processor; so each row is computed by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
LATENT, SHAPE = 5, (3, 4, 6)


def each_row(compute: Callable[..., Any], *arrays: Float) -> Float:
    return np.array([compute(*rows) for rows in zip(*arrays, strict=True)], np.float32)


def noise(seed: int, first_index: int, rows: int) -> Float:
    draws = [np.random.default_rng([seed, first_index + row]).standard_normal(LATENT) for row in range(rows)]
    return np.array(draws, np.float32)


def encode(images: Float) -> tuple[Float, Float]:
    mean = images.reshape(len(images), -1)[:, :LATENT]
    return mean, -mean


def draw(mean: Float, log_variance: Float, seed: int, first_index: int) -> Float:
    return each_row(lambda m, v, e: m + np.exp(v / 2) * e, mean, log_variance, noise(seed, first_index, len(mean)))


def decode(version: int, latents: Float) -> Float:
    weights = np.random.default_rng(version).standard_normal((LATENT, int(np.prod(SHAPE)))).astype(np.float32)
    images = each_row(lambda z: 1 / (1 + np.exp(-(z[:, np.newaxis] * weights).sum(axis=0))), latents)
    return images.reshape(-1, *SHAPE)


def reconstruction_errors(images: Float, decoded: Float) -> Float:
    return each_row(lambda x, p: -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(), images, decoded)


def divergences(mean: Float, log_variance: Float) -> Float:
    return each_row(lambda m, v: 0.5 * (np.exp(v) + m**2 - 1 - v).sum(), mean, log_variance)
