"""The plans of a foreign model's graphs, decoder first."""

from __future__ import annotations

from pathlib import Path

from latentserve_training.foreign.decoder import plan_decoder
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.encoder import plan_encoder
from latentserve_training.foreign.plan import ForeignPlan


def plan_foreign(description: ForeignModel, folder: Path, rows: int, seed: int) -> list[ForeignPlan]:
    """The plans of the described graphs, whose files lie in `folder`.

    They are checked with `rows` latents drawn with `seed`, a conditional model's with its labels in turn, and the
    encoder with the images that these give.

    Raises:
        ExportError: a graph does not fit the description.
    """
    decoder = plan_decoder(description, folder, rows, seed)
    if description.encoder is None:
        return [decoder]
    drawn = {"image": decoder.compute(decoder.example)["image"]}
    labels = {name: rows for name, rows in decoder.example.items() if name == "label"}
    return [plan_encoder(description, description.encoder, folder, decoder.shape, drawn | labels), decoder]
