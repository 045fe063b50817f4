"""What a foreign decoder is, as far as its graph says: its tensors, latents and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from latentserve.contract import MAX_LATENT_DIM
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.guess.lookup import entries
from latentserve_training.foreign.guess.ports import Ports
from latentserve_training.foreign.needed_part import needed_part
from latentserve_training.foreign.setting import setting
from latentserve_training.foreign.tensor import signature

_NAMED = frozenset({"image", "images", "pixels"})
"""Names of outputs that can mean nothing else."""


def guess_decoder(draft: Draft, graph: ForeignGraph) -> ForeignGraph:
    """Settle the decoder's tensors and the latents; returns the part of the graph that the image needs.

    Raises:
        ExportError: a tensor that was told is not there.
    """
    image = _guess_image(draft, graph)
    beside = [draft.value(f"decoder.{name}") for name in ("logits", "log_scale", "log_variance")]
    told = [graph.tensor(name) for name in beside if name is not None]
    part = needed(graph, [image, *told] if image else output_names(graph))
    ports = Ports.of(part, draft)
    latent = ports.main(draft, "decoder.latent", [*ports.rows, *ports.codes])
    if latent is not None:
        _guess_sides(draft, part, latent)
        if latent in Ports(part, part.inputs).codes:
            _guess_codes(draft, part, latent)
    return part


def needed(graph: ForeignGraph, tensors: Sequence[str]) -> ForeignGraph:
    """The part of the graph that the tensors need, not yet held to any rule."""
    part = needed_part(graph.source.model, tensors)
    return replace(graph, model=part, own=part)


def latent_sides(draft: Draft) -> tuple[int, ...] | None:
    """The shape of a latent, where it is settled and one that a latent may have."""
    dim, shape = draft.value("latent_dim"), draft.value("latent_shape")
    sides = tuple(shape) if shape else (dim,) if dim else (0,)
    return sides if min(sides) >= 1 and math.prod(sides) <= MAX_LATENT_DIM else None


def output_names(graph: ForeignGraph) -> list[str]:
    """The names of the graph's outputs."""
    return [value.name for value in graph.model.graph.output]


def shown_outputs(graph: ForeignGraph, names: Sequence[str]) -> str:
    """The outputs with their types and shapes, for a message."""
    return " and ".join(f"{name!r} ({signature(graph.inferred[name])})" for name in names)


def _guess_image(draft: Draft, graph: ForeignGraph) -> str | None:
    """The output that is the image; None where that is open."""
    names = output_names(graph)
    if draft.value("decoder.image") is not None:
        return graph.output(draft.value("decoder.image"))
    named = [name for name in names if name.lower() in _NAMED]
    if len(names) == 1 or len(named) == 1:
        (image,) = named or names
        draft.guess("decoder.image", image, "the only output" if len(names) == 1 else "its name says so")
        return image
    which = " or ".join(setting("decoder.image", name) for name in names)
    draft.ask("decoder.image", f"which output of the decoder is the image, {shown_outputs(graph, names)}? {which}")
    return None


def _guess_sides(draft: Draft, graph: ForeignGraph, latent: str) -> None:
    """Settle the size or the shape of a latent."""
    if draft.is_told("latent_dim") or draft.is_told("latent_shape"):
        return
    shape, said = graph.shape(latent), f"the decoder's input {latent!r} is {signature(graph.inputs[latent])}"
    if not shape:
        sizes = f"{setting('latent_dim', 64)} or {setting('latent_shape', [4, 8, 8])}"
        draft.ask("latent_dim", f"{said}; how large is a latent? {sizes}")
        return
    sides = [side for side in shape if side > 1] or [1]
    if len(sides) == 1:
        draft.guess("latent_dim", sides[0], said)
    else:
        draft.guess("latent_shape", list(shape), said)


def _guess_codes(draft: Draft, graph: ForeignGraph, latent: str) -> None:
    if found := entries(graph.model.graph, latent):
        draft.guess("codes", found, f"the table in which {latent!r} is looked up has so many entries")
    else:
        draft.ask(
            "codes", f"how many entries has the codebook that {latent!r} is looked up in? {setting('codes', 512)}"
        )
