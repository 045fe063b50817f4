"""The shape of a foreign model's images, and whether channels come first or last, as far as its graphs' shapes tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.setting import setting

_CHANNELS = (1, 3, 4)
"""Numbers by which the axis of the channels is known."""
Layout = Literal["nchw", "nhwc"]
_FIRST, _LAST = setting("layout", "nchw"), setting("layout", "nhwc")


def guess_layout(draft: Draft, image: str, drawn: Sequence[int] | None, read: Sequence[int] | None) -> None:
    """Settle the layout, and the shape where the graph's own has not three sides.

    `drawn` is the shape of a row of the decoder's images, `read` that of the encoder's; None where they are not known.
    """
    sides = None if drawn is None else [*drawn]
    if sides is not None and len(sides) == 3:
        _guess_of_sides(draft, image, sides, read)
        return
    seen = _layout_of(read) if read is not None else None
    shape = draft.value("image_shape")
    if shape is not None and len(shape) != 3:
        return  # which the description refuses
    if shape is None and sides is not None and read is not None and seen and math.prod(read) == math.prod(sides):
        shape = _planes(read, seen)
        draft.guess("image_shape", shape, f"the encoder reads images [batch, {_text(read)}]")
    elif shape is None and sides is not None and len(sides) == 2 and min(sides) > max(_CHANNELS):
        shape = [1, *sides]
        draft.guess("image_shape", shape, f"{image!r} is [batch, {_text(sides)}], without channels")
    if shape is None:
        _ask_shape(draft, image, sides)
    elif shape[0] > 1 and seen:
        draft.guess("layout", seen, f"the encoder reads images [batch, {_text(read or ())}]")
    elif shape[0] > 1:
        _ask_layout(draft, f"{image!r} has images as rows of numbers")


def _guess_of_sides(draft: Draft, image: str, sides: list[int], read: Sequence[int] | None) -> None:
    told = draft.value("image_shape")
    layout = _layout_of(sides)
    if told is not None and [*told] in (sides, _planes(sides, "nhwc")):
        layout = "nchw" if [*told] == sides else "nhwc"
    shown = f"{image!r} is [batch, {_text(sides)}]"
    if layout is None:
        _ask_layout(draft, shown)
        return
    own = _planes(sides, layout)
    mixed = read is not None and len(read) == 3 and [*read] != sides and [*read] in (own, [*own[1:], own[0]])
    if not mixed:  # else the import reads each graph's layout off its own shape
        first = "first" if layout == "nchw" else "last"
        draft.guess("layout", layout, f"{shown}, {own[0]} channel{'s' * (own[0] > 1)} {first}")


def _layout_of(sides: Sequence[int]) -> Layout | None:
    """The layout of images with three sides; None where they can be read either way."""
    if len(sides) != 3 or (sides[0] in _CHANNELS) == (sides[2] in _CHANNELS):
        return None
    return "nchw" if sides[0] in _CHANNELS else "nhwc"


def _planes(sides: Sequence[int], layout: Layout) -> list[int]:
    """Channels, height and width of sides in that layout."""
    return [*sides] if layout == "nchw" else [sides[2], sides[0], sides[1]]


def _ask_layout(draft: Draft, shown: str) -> None:
    draft.ask("layout", f"{shown}: do channels come first or last? {_FIRST} if first, {_LAST} if last")


def _ask_shape(draft: Draft, image: str, sides: Sequence[int] | None) -> None:
    asked = (
        f"{image!r} is [batch, {'?' if sides is None else _text(sides)}]: how many channels, rows and columns has it?"
    )
    size = None if sides is None else math.prod(sides)
    squares = [[channels, side, side] for channels in _CHANNELS if size and (side := _root(size, channels))]
    shown = " or ".join(setting("image_shape", shape) for shape in squares or [[3, 64, 64]])
    last = f"; of more than one, {_FIRST} if channels come first, {_LAST} if last"
    draft.ask("image_shape", f"{asked} {shown}{last}")


def _root(size: int, channels: int) -> int | None:
    side = math.isqrt(size // channels)
    return side if side * side * channels == size else None


def _text(sides: Sequence[int]) -> str:
    return ", ".join(map(str, sides))
