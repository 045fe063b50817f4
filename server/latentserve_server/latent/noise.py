"""Counter-based noise: the same row for the same (seed, index), everywhere.

The scheme is part of the contract and is specified, with test vectors, in docs/protocol.md. In short: a counter-based
generator (Philox4x64-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") makes 64 bits at any place
of the sequence directly, and the Box-Muller transform turns each 64 bits into two normal values. Logarithm, sine and
cosine are polynomials of float32 sums, products and quotients, which IEEE 754 rounds the same way on every processor;
the mathematical functions of numpy and libm differ in the last bit between machines.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import MAX_INDEX
from latentserve_server.errors import InvalidArgument

NOISE_SCHEME = "philox4x64-boxmuller-1"
"""Name and version of the rule. A change of any output bit takes a new version."""

MAX_ATTEMPTS = 64
"""Draws of a value that keeps falling outside a truncation's bound; at 0.5, 3e-14 of the values take more."""

ATTEMPT_STRIDE = 256
"""Distance between the streams of a truncation's attempts."""

_WORDS_PER_BLOCK = 4
_VALUES_PER_WORD = 2
_CHUNK_VALUES = 2**15  # scratch stays within a core's cache

_F = np.float32
# Minimax polynomials, lowest power first; every constant is the float32 nearest to what is written.
# -2 ln(m) = s L(s^2) with s = (m - 1) / (m + 1), for m in [sqrt(1/2), sqrt(2)]; error of L 6e-7.
_LOG = tuple(_F(c) for c in (-4.0, -1.3331118, -0.82406908))
_MINUS_2_LN_2 = _F(-1.3862944)
# cos(pi/2 x) = C(x^2) and sin(pi/2 x) = x S(x^2), for x in [-1, 1]; errors 5e-8 and 1.2e-6.
_COS = tuple(_F(c) for c in (1.0, -1.2336988, 0.2536532, -0.020813966, 0.00085968999))
_SIN = tuple(_F(c) for c in (1.5707952, -0.64592594, 0.079500653, -0.004371015))


class Stream(IntEnum):
    """What noise is drawn for. Streams of one seed are independent of each other."""

    PRIOR = 0
    """Latents drawn from the prior."""
    POSTERIOR = 1
    """Latents drawn from posteriors, one row an image."""
    COMPONENT = 2
    """Components of a mixture prior: one word a row, and no values."""
    INPUT = 3
    """The first of the decoder's noise inputs; the others follow, up to MAX_NOISE_INPUTS."""


class NoiseSource(threading.local):
    """Draws noise rows, from any thread.

    Each thread has its own generator and scratch memory and keeps them between calls: made anew, they would cost as
    much as the arithmetic does, most of it in page faults.
    """

    def __init__(self) -> None:
        self._generator = np.random.Philox()
        self._key, self._counter = np.zeros(2, np.uint64), np.zeros(4, np.uint64)
        self._state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": self._counter, "key": self._key},
            "buffer": np.zeros(_WORDS_PER_BLOCK, np.uint64),
            "buffer_pos": _WORDS_PER_BLOCK,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._scratch = np.empty((4, _CHUNK_VALUES // _VALUES_PER_WORD), _F)

    def draw(self, seed: int, first_index: int, count: int, dim: int, stream: int) -> NDArray[np.float32]:
        """Rows `first_index` to `first_index + count - 1` of `seed`'s sequence, float32 [count, dim], N(0, 1).

        Row i depends on (seed, stream, i, dim) alone. `seed` is in [0, 2^64), every index below `MAX_INDEX`, and `dim`
        in [1, MAX_LATENT_DIM]; the caller has checked.
        """
        width = -(-dim // _VALUES_PER_WORD)
        self._seek(seed, stream, first_index * width)
        values = np.empty(count * width * _VALUES_PER_WORD, _F)
        for start in range(0, values.size, _CHUNK_VALUES):
            chunk = values[start : start + _CHUNK_VALUES]
            words = self._generator.random_raw(chunk.size // _VALUES_PER_WORD)
            _box_muller(words, chunk, self._scratch[:, : words.size])
        return values.reshape(count, width * _VALUES_PER_WORD)[:, :dim]

    def draw_many(self, rows: Sequence[tuple[int, int, int]], dim: int, stream: int) -> NDArray[np.float32]:
        """As `draw` for every (seed, first_index, count), one after another, float32 [sum of counts, dim].

        One transform for all of them: that of a single row costs ten times as much as that of a row among many.
        """
        width = -(-dim // _VALUES_PER_WORD)
        drawn: list[NDArray[np.uint64]] = []
        for seed, first_index, count in rows:
            self._seek(seed, stream, first_index * width)
            drawn.append(self._generator.random_raw(count * width))
        words = np.concatenate(drawn)
        values = np.empty(words.size * _VALUES_PER_WORD, _F)
        for start in range(0, values.size, _CHUNK_VALUES):
            chunk = values[start : start + _CHUNK_VALUES]
            part = words[start // _VALUES_PER_WORD : (start + chunk.size) // _VALUES_PER_WORD]
            _box_muller(part, chunk, self._scratch[:, : part.size])
        return values.reshape(-1, width * _VALUES_PER_WORD)[:, :dim]

    def words(self, seed: int, first_index: int, count: int, stream: Stream) -> NDArray[np.uint64]:
        """Words `first_index` to `first_index + count - 1` of (seed, stream), uint64 [count]."""
        self._seek(seed, stream, first_index)
        words: NDArray[np.uint64] = self._generator.random_raw(count)
        return words

    def truncate(
        self, rows: NDArray[np.float32], seed: int, first_index: int, stream: Stream, bound: float
    ) -> NDArray[np.float32]:
        """Rows [n, dim] that `draw` gave for these, from the normal distribution cut off at +-`bound`, at least 0.5.

        A value outside is replaced by the one at the same place of attempt 1, 2, ... until one is inside; attempt k is
        the sequence of stream + 256 k. What is still outside after `MAX_ATTEMPTS` is cut off at the bound.
        """
        rows, (count, dim) = rows.copy(), rows.shape
        for attempt in range(1, MAX_ATTEMPTS + 1):
            outside = np.abs(rows) > bound
            if not outside.any():
                return rows
            again = self.draw(seed, first_index, count, dim, stream + ATTEMPT_STRIDE * attempt)
            rows[outside] = again[outside]
        return np.clip(rows, -bound, bound)

    def _seek(self, seed: int, stream: int, word: int) -> None:
        """Make the generator's next output the given word of the sequence of (seed, stream)."""
        block, skipped = divmod(word, _WORDS_PER_BLOCK)
        self._counter[0], self._key[0], self._key[1] = block, seed, stream
        self._generator.state = self._state  # which is copied
        if skipped:
            self._generator.random_raw(skipped, output=False)


def check_indices(field: str, first_index: int, count: int) -> None:
    """Hold noise indices to the bound of the scheme.

    Raises:
        InvalidArgument: the last index is beyond it.
    """
    if first_index + count > MAX_INDEX:
        raise InvalidArgument(field, f"{first_index} + {count} rows is over 2^48")


class Latents(Protocol):
    """Latents that are more than noise."""

    def from_noise(self, noise: NDArray[np.float32], seed: int, first_index: int) -> NDArray[np.float32]:
        """Those of a seed from an index on, float32 [count, dim], from the noise that was drawn for them."""

    def work_bytes(self, count: int) -> int:
        """Bytes that drawing so many goes over, about."""


class Draw:
    """Rows of a seed that are drawn when they are needed, float32 [count, dim] or [count, *row_shape]."""

    __slots__ = ("count", "dim", "first_index", "latents", "nbytes", "noise", "seed", "shape", "stream")

    def __init__(
        self,
        noise: NoiseSource,
        dim: int,
        seed: int,
        first_index: int,
        count: int,
        latents: Latents | None = None,
        *,
        stream: int = Stream.PRIOR,
        row_shape: tuple[int, ...] | None = None,
    ) -> None:
        """They are N(0, I), or where `latents` are given, those."""
        self.noise = noise
        self.dim = dim
        self.seed = seed
        self.first_index = first_index
        self.count = count
        self.latents = latents
        self.stream = stream
        self.shape = (count, dim) if row_shape is None else (count, *row_shape)
        self.nbytes = 4 * count * dim
        """Bytes of the rows."""

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32."""
        return np.dtype(np.float32)

    @property
    def work_bytes(self) -> int:
        """Bytes that drawing goes over, about."""
        return self.nbytes if self.latents is None else self.latents.work_bytes(self.count)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice) -> Draw:
        start, stop, _ = rows.indices(self.count)
        if stop - start == self.count:
            return self
        where = self.seed, self.first_index + start, stop - start
        return Draw(self.noise, self.dim, *where, self.latents, stream=self.stream, row_shape=self.shape[1:])

    def rows(self) -> NDArray[np.float32]:
        """The rows, drawn by themselves."""
        return self.rows_from(self.noise.draw(self.seed, self.first_index, self.count, self.dim, self.stream))

    def rows_from(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows, from the noise [count, dim] that was drawn for them."""
        rows = noise if self.latents is None else self.latents.from_noise(noise, self.seed, self.first_index)
        return rows.reshape(self.shape)


def join_rows(parts: Sequence[NDArray[Any] | Draw], out: NDArray[Any]) -> None:
    """Put the parts into `out`, [sum of their rows, ...], one after another; the noise of all is drawn at once."""
    draws = [part for part in parts if isinstance(part, Draw)]
    if not draws:
        np.concatenate([part for part in parts if not isinstance(part, Draw)], out=out)
        return
    first = draws[0]
    places = [(draw.seed, draw.first_index, draw.count) for draw in draws]
    noise = first.noise.draw_many(places, first.dim, first.stream)
    if len(draws) == len(parts) and all(draw.latents is None for draw in draws):
        out[:] = noise.reshape(out.shape)
        return
    row = drawn = 0
    for part in parts:
        begin, row = row, row + len(part)
        if isinstance(part, Draw):
            before, drawn = drawn, drawn + part.count
            out[begin:row] = part.rows_from(noise[before:drawn])
        else:
            out[begin:row] = part


def _box_muller(words: NDArray[np.uint64], values: NDArray[np.float32], scratch: NDArray[np.float32]) -> None:
    """Fill values with two normal numbers from each word, the cosine and the sine. Overwrites words.

    The low half of a word, as a signed number a, gives the radius: sign(a) sqrt(-2 ln(|a| 2^-31 + 2^-32)). The high
    half, b, gives the angle, pi/2 * b 2^-31: half a turn; the radius's sign makes it a whole one.
    """
    angle, square, radius, value = scratch
    signs = words.astype(np.uint32)
    signs &= np.uint32(1 << 31)
    halves = words.astype("<u8", copy=False).view("<f4")
    halves[:] = halves.view("<i4")
    np.abs(halves[0::2], out=radius)
    radius *= _F(2.0**-31)
    radius += _F(2.0**-32)
    _minus_two_log(radius, scratch=(angle, square, value))
    np.sqrt(radius, out=radius)
    radius.view(np.uint32)[:] |= signs
    angle[:] = halves[1::2]
    angle *= _F(2.0**-31)
    np.multiply(angle, angle, out=square)
    np.multiply(_horner(_COS, square, out=value), radius, out=values[0::2])
    _horner(_SIN, square, out=value)
    value *= angle
    np.multiply(value, radius, out=values[1::2])


def _minus_two_log(u: NDArray[np.float32], scratch: tuple[NDArray[np.float32], ...]) -> None:
    """Replace u, in (0, 1], by -2 ln(u), taking u as m * 2^e with m in [sqrt(1/2), sqrt(2))."""
    exponent, s, value = scratch
    bits, shifted, integer = u.view(np.int32), s.view(np.int32), value.view(np.int32)
    np.subtract(bits, np.int32(0x3F3504F3), out=integer)  # the bit pattern of sqrt(1/2)
    integer >>= np.int32(23)
    bits -= np.left_shift(integer, np.int32(23), out=shifted)  # u is m now
    exponent[:] = integer
    exponent *= _MINUS_2_LN_2
    np.subtract(u, _F(1.0), out=s)
    u += _F(1.0)
    s /= u
    _horner(_LOG, np.multiply(s, s, out=value), out=u)
    u *= s
    u += exponent


def _horner(
    coefficients: tuple[np.float32, ...], x: NDArray[np.float32], out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """c0 + x (c1 + x (c2 + ...)), rounded to float32 after every product and every sum."""
    np.multiply(x, coefficients[-1], out=out)
    for coefficient in coefficients[-2:0:-1]:
        out += coefficient
        out *= x
    out += coefficients[0]
    return out
