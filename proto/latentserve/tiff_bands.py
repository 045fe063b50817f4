"""The bands of a TIFF file, by the tags of its page (TIFF 6.0, 1992)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

TOO_DEEP = "more than 8 bits a channel; 8 are wanted"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES_PER_PIXEL, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 338, 339
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Bands that make up the picture, by photometric interpretation: grey twice, RGB, palette, CMYK, YCbCr, CIE L*a*b*."""
_ALPHA = frozenset({1, 2, 999})
"""Extra samples that are opacity: multiplied into the colours, not so, and what Corel Draw writes for it."""
_UNSIGNED = 1


@dataclass(frozen=True)
class TiffBands:
    """The bands of a page."""

    bits: tuple[int, ...]
    """Of each band; the tag may hold one number for all."""
    formats: tuple[int, ...]
    """1 unsigned, 2 signed, 3 floating point; likewise."""
    count: int
    colours: int
    """How many of them make up the picture, as far as is known."""
    alphas: int
    """How many say how opaque it is."""

    @classmethod
    def of(cls, tags: Mapping[int, Any]) -> Self:
        """Those that the tags tell of. A band beyond the colours that no tag explains is no alpha."""
        count = int(tags.get(_SAMPLES_PER_PIXEL, 1))
        return cls(
            bits=tuple(tags.get(_BITS_PER_SAMPLE, (1,))),
            formats=tuple(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))),
            count=count,
            colours=min(count, _COLOURS.get(tags.get(_PHOTOMETRIC, 0), 1)),
            alphas=sum(extra in _ALPHA for extra in tags.get(_EXTRA_SAMPLES, ())),
        )

    @property
    def problem(self) -> str | None:
        """Why the bands cannot be read; None where they are unsigned bytes."""
        if max(self.bits) > 8:
            return TOO_DEEP
        if any(kind != _UNSIGNED for kind in self.formats):
            return "numbers below 0 or fractions; whole ones from 0 to 255 are wanted"
        return None

    @property
    def spare(self) -> int:
        """How many bands are neither colour nor alpha."""
        return max(self.count - self.colours - self.alphas, 0)
