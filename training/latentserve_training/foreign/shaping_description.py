"""What a description says of the shaping that a decoder does itself."""

from __future__ import annotations

from dataclasses import dataclass

from latentserve_training.errors import ConfigError

_LARGEST = 1e6


@dataclass(frozen=True, kw_only=True)
class ForeignPsi:
    """An input of the decoder that callers may set, such as StyleGAN's truncation."""

    input: str
    """Name of the input: one number for each image, or one for all."""

    default: float
    """What it is for callers who do not set it."""

    min: float
    """The least that callers may set."""

    max: float
    """The most that callers may set."""


@dataclass(frozen=True, kw_only=True)
class ForeignShaping:
    """What callers may set of a decoder, to trade variety for typicality."""

    psi: ForeignPsi
    """The decoder's psi."""

    def check(self) -> None:
        """Raise ConfigError unless the range has the default, and is one of ordinary numbers."""
        psi = self.psi
        if not -_LARGEST <= psi.min <= psi.default <= psi.max <= _LARGEST:
            allowed = f"default must be from min to max, which are from -{_LARGEST:g} to {_LARGEST:g}"
            raise ConfigError(f"shaping.psi has default {psi.default}, min {psi.min} and max {psi.max}; {allowed}")
