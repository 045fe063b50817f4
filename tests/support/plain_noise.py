"""The noise scheme, written a second time: one value at a time, in plain Python, from its description alone."""

from __future__ import annotations

from typing import Any

import numpy as np

MASK = 2**64 - 1
F = np.float32

LOG = [F(c) for c in (-4.0, -1.3331118, -0.82406908)]
COS = [F(c) for c in (1.0, -1.2336988, 0.2536532, -0.020813966, 0.00085968999)]
SIN = [F(c) for c in (1.5707952, -0.64592594, 0.079500653, -0.004371015)]


Block = tuple[int, int, int, int]


def philox4x64(counter: Block, key: tuple[int, int]) -> Block:
    """Ten rounds of Philox4x64: four words. Salmon et al. 2011."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = second >> 64 ^ c1 ^ k0, second & MASK, first >> 64 ^ c3 ^ k1, first & MASK
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & MASK, k1 + 0xBB67AE8584CAA73B & MASK
    return c0, c1, c2, c3


def polynomial(coefficients: list[np.float32], x: np.float32) -> np.float32:
    value: np.float32 = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = F(value * x + coefficient)  # numpy's scalars round after the product and again after the sum
    return value


def minus_two_log(u: np.float32) -> np.float32:
    fraction, exponent = np.frexp(u)  # u = fraction * 2^exponent, fraction in [1/2, 1)
    if fraction < F(2**-0.5):
        fraction, exponent = fraction * F(2), exponent - 1
    s = (fraction - F(1)) / (fraction + F(1))
    return F(polynomial(LOG, s * s) * s + F(exponent) * F(-1.3862944))


def normals(word: int) -> tuple[np.float32, np.float32]:
    """Two normal values from one word."""
    low, high = (half - 2**32 if half >= 2**31 else half for half in (word & 0xFFFFFFFF, word >> 32))
    radius = np.sqrt(minus_two_log(abs(F(low)) * F(2.0**-31) + F(2.0**-32)))
    radius = -abs(radius) if low < 0 else radius
    angle = F(high) * F(2.0**-31)
    square = angle * angle
    return polynomial(COS, square) * radius, polynomial(SIN, square) * angle * radius


def noise_row(seed: int, stream: int, index: int, dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Row `index`: its words follow those of the rows before it, each row beginning with a word of its own."""
    width = (dim + 1) // 2
    values: list[np.float32] = []
    for position in range(index * width, (index + 1) * width):
        block, place = divmod(position, 4)
        values += normals(philox4x64((block + 1, 0, 0, 0), (seed, stream))[place])
    return np.array(values[:dim], F)


def bits(values: np.ndarray[Any, np.dtype[np.float32]]) -> list[str]:
    return [f"{pattern:08x}" for pattern in values.view(np.uint32).ravel().tolist()]


def word(seed: int, stream: int, position: int) -> int:
    """One word of the sequence of (seed, stream)."""
    block, place = divmod(position, 4)
    return philox4x64((block + 1, 0, 0, 0), (seed, stream))[place]


def component_of(seed: int, index: int, weights: list[float]) -> int:
    """The component of a mixture that row `index` is drawn from."""
    uniform = (word(seed, 2, index) >> 11) * 2.0**-53
    total, component = 0.0, 0
    for weight in weights[:-1]:
        total += weight
        component += total <= uniform
    return component


def mixture_row(
    mean: np.ndarray[Any, np.dtype[np.float32]],
    factor: np.ndarray[Any, np.dtype[np.float32]],
    noise: np.ndarray[Any, np.dtype[np.float32]],
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One latent of a component, from one row of noise."""
    latent = mean.copy()
    for j in range(len(mean)):
        for i in range(j, len(mean)):
            latent[i] = F(latent[i] + F(factor[i, j] * noise[j]))
    return latent
