"""Rows of a batch that hold NaN or infinity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MADE_FROM: Mapping[str, str] = MappingProxyType({"image_uint8": "image"})
"""uint8 outputs, which cannot hold NaN, and the float output that each is made from."""


def with_witnesses(outputs: Iterable[str]) -> set[str]:
    """The outputs, and those in which their NaN would be seen."""
    outputs = set(outputs)
    return outputs | {_MADE_FROM[name] for name in outputs if name in _MADE_FROM}


class Spoiled:
    """The rows of one batch that are not finite, by output. Each output is checked once; its rows are looked at only
    where that fails."""

    def __init__(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        self._rows = {
            name: ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
            for name, rows in outputs.items()
            if rows.dtype.kind == "f" and not np.isfinite(rows).all()
        }

    def first(self, outputs: Iterable[str], start: int, stop: int) -> tuple[int, str] | None:
        """The first row from `start` to `stop` that is spoiled in one of these outputs, from 0 on, and in which."""
        found = [
            (int(rows.argmax()), name)
            for name in outputs
            if (spoiled := self._rows.get(_MADE_FROM.get(name, name))) is not None
            and (rows := spoiled[start:stop]).any()
        ]
        return min(found, default=None)
