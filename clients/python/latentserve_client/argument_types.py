"""What words of the command line may be: each reads one word, or says in one line why it cannot."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from latentserve_client._fields import MAX_UINT32
from latentserve_client.errors import RequestError
from latentserve_client.inputs import Axis
from latentserve_client.model_ref import ModelRef


def model_ref(value: str) -> ModelRef:
    """A model, as ModelRef.parse reads it."""
    try:
        return ModelRef.parse(value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def integer(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer from low to high."""

    def read(value: str) -> int:
        if not value.isdecimal() or not low <= int(value) <= high:
            raise argparse.ArgumentTypeError(f"{value!r} is not an integer from {low} to {high}")
        return int(value)

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a finite number from low to high."""
    allowed = f"number from {low:g} to {high:g}" if math.isfinite(high) else f"number of at least {low:g}"

    def read(value: str) -> float:
        result = _float(value)
        if not (low <= result <= high and math.isfinite(result)):
            raise argparse.ArgumentTypeError(f"{value!r} is not a {allowed if math.isfinite(low) else 'finite number'}")
        return result

    return read


def axis(value: str) -> Axis:
    """A latent dimension and its values."""
    words = value.split(":")
    if len(words) != 4:
        raise argparse.ArgumentTypeError(f"{value!r} is not DIMENSION:LOW:HIGH:STEPS, such as 0:-3:3:9")
    finite = number(-math.inf, math.inf)
    dimension, steps = integer(0, MAX_UINT32)(words[0]), integer(2, MAX_UINT32)(words[3])
    return Axis(dimension, finite(words[1]), finite(words[2]), steps)


def seconds(value: str) -> float:
    """A positive number of seconds."""
    seconds = _float(value)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive number of seconds")
    return seconds


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
