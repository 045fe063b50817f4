"""A few images that a foreign decoder draws, to see their shape and range before anything is described."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from latentserve_training.errors import ExportError
from latentserve_training.foreign.batch_axis import fixed_rows
from latentserve_training.foreign.fixed_input import fixed_inputs
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.guess.decoder import latent_sides
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.guess.ports import WHOLE

ROWS = 4
_SEED = 0


def draw(draft: Draft, graph: ForeignGraph, image: str) -> NDArray[Any] | None:
    """Images of `ROWS` seeded latents as the graph gives them; None where too little is known to draw, or it fails.

    Latents and noise are of N(0, 1), labels and codes from the first on. An import says why a graph does not run.

    Raises:
        ExportError: an input that was told a value does not take it.
    """
    values = draft.value("decoder.inputs") or {}
    fixed = {one.name: one.rows(ROWS) for one in fixed_inputs(graph, values)}
    latent, label = draft.value("decoder.latent"), draft.value("decoder.label")
    drawn = {latent, label, *(draft.value("decoder.noise") or ())}
    if latent is None or set(graph.inputs) - set(fixed) - drawn or draft.is_told("decoder.label_embeddings"):
        return None
    random, feeds = np.random.default_rng(_SEED), dict(fixed)
    for name in [name for name in graph.inputs if name not in fixed]:
        sides = graph.shape(name)
        if sides is None and name == latent:
            sides = latent_sides(draft)
        rows = None if sides is None else _rows(draft, random, graph.inputs[name], sides)
        if rows is None:
            return None
        feeds[name] = rows
    try:
        batch = fixed_rows(list(graph.inputs.values()))
        images = graph.source.reference(graph.model, [image], batch).run(feeds)[image]
    except ExportError:
        return None
    return images if images.dtype.kind in "fu" and images.size and np.isfinite(images).all() else None


def _rows(
    draft: Draft, random: np.random.Generator, value: onnx.ValueInfoProto, sides: tuple[int, ...]
) -> NDArray[Any] | None:
    """Rows for an input: latents or noise, or codes or labels in turn; None where their number is open."""
    shape, dtype = (ROWS, *sides), value.type.tensor_type.elem_type
    is_label, is_latent = (draft.value(f"decoder.{word}") == value.name for word in ("label", "latent"))
    if dtype in WHOLE:
        several = draft.value("labels" if is_label else "codes")
        count = len(several) if isinstance(several, list) else several
        if not count:
            return None
        rows = np.arange(math.prod(shape)).reshape(shape) % count
    elif is_label:
        rows = np.eye(math.prod(sides))[np.arange(ROWS) % math.prod(sides)].reshape(shape)
    else:
        rows = random.standard_normal(shape)
        if is_latent:
            rows = rows / (draft.value("latent_scale") or 1) + (draft.value("latent_shift") or 0)
    return rows.astype(helper.tensor_dtype_to_np_dtype(dtype))
