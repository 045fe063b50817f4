"""The range of a foreign decoder's pixels: what its last activation bounds, or what a person has to say."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto

from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.guess.activation import Activations, Bounds
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.setting import setting

_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-0.5, 0.5))
"""Ranges in which images are held; what keeps values in another one may do so for another reason."""
_ROUNDING = 1e-3
_CLIP = setting("clip", True)


def guess_range(draft: Draft, graph: ForeignGraph, image: str, images: NDArray[Any] | None) -> None:
    """Settle `image_range`, and ask for `clip` where the `images`, some that were drawn, leave one that was told."""
    bounds = Activations(graph.model.graph).bounds(image)
    run = (
        "" if images is None else f"; of {len(images)} images, pixels run from {images.min():.3g} to {images.max():.3g}"
    )
    if draft.is_told("image_range"):
        _ask_clip(draft, image, images, run)
    elif graph.inferred[image].type.tensor_type.elem_type == TensorProto.UINT8:
        draft.guess("image_range", [0, 255], f"{image!r} is bytes")
    elif draft.is_told("decoder.logits"):
        draft.guess("image_range", [0, 1], "it is the sigmoid of logits")
    elif bounds is not None and (bounds.low, bounds.high) in _RANGES and not _one_sided(bounds, images):
        draft.guess("image_range", [_short(bounds.low), _short(bounds.high)], f"{bounds.operator} gives {image!r}{run}")
    else:
        kept = (
            "no last activation bounds"
            if bounds is None
            else f"{bounds.operator} keeps {bounds.low:g} to {bounds.high:g} of"
        )
        draft.ask(
            "image_range",
            f"{kept} {image!r}{run}; what are the smallest and the largest pixel? "
            f"{setting('image_range', [0, 1])} or {setting('image_range', [-1, 1])}, with {_CLIP} for what is beyond",
        )


def _one_sided(bounds: Bounds, images: NDArray[Any] | None) -> bool:
    """Whether images use one half alone of a range around 0, as if they were from 0 on."""
    return bounds.low < 0 and images is not None and float(images.min()) >= 0


def _ask_clip(draft: Draft, image: str, images: NDArray[Any] | None, run: str) -> None:
    told = draft.value("image_range")
    if images is None or draft.is_told("decoder.logits") or not _is_range(told):
        return
    low, high = map(float, told)
    slack = _ROUNDING * (high - low)
    if images.min() < low - slack or images.max() > high + slack:
        beyond = f"{image!r} is drawn beyond image_range{run}: are its pixels to become the nearest allowed ones?"
        draft.ask("clip", f"{beyond} {_CLIP}, or another image_range")


def _is_range(told: Any) -> bool:
    return isinstance(told, list) and len(told) == 2 and all(isinstance(value, int | float) for value in told)


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() else value
