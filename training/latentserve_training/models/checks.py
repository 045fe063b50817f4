"""Range checks for model settings and image sizes."""

from __future__ import annotations

import math

from latentserve_training.errors import ConfigError
from latentserve_training.models.model import ImageShape


def require_positive(config: object, *fields: str) -> None:
    """Require the model's numbers, where given, to be finite and greater than 0.

    Raises:
        ConfigError: naming the first that is not.
    """
    for name in fields:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"model.{name} is {value}; it must be positive and finite")


def require_not_negative(place: str, config: object, *fields: str) -> None:
    """Require the numbers at `place` of the configuration to be finite and at least 0.

    Raises:
        ConfigError: naming the first that is not.
    """
    for name in fields:
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"{place}.{name} is {getattr(config, name)}; it must be finite and not negative")


def require_fraction(config: object, *fields: str) -> None:
    """Require the model's numbers to be at least 0 and less than 1.

    Raises:
        ConfigError: naming the first that is below 0, or 1 and above.
    """
    for name in fields:
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"model.{name} is {getattr(config, name)}; it must be at least 0 and less than 1")


def require_sides(family: str, image_shape: ImageShape) -> None:
    """Require images whose sides are multiples of 4.

    Raises:
        ConfigError: a side of the images is not a multiple of 4.
    """
    _, height, width = image_shape
    if height % 4 or width % 4:
        raise ConfigError(f"{family} takes images whose sides are multiples of 4, not {height}x{width}; set data.size")
