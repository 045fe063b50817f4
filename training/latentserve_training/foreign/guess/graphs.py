"""Two ONNX files of one model, asked for its description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentserve_training.errors import ExportError
from latentserve_training.export.runtime_message import shortened
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.guess.decoder import guess_decoder, needed, output_names
from latentserve_training.foreign.guess.distribution import guess_kind_alone, guess_likelihood, guess_prior
from latentserve_training.foreign.guess.draft import Draft
from latentserve_training.foreign.guess.drawing import draw
from latentserve_training.foreign.guess.encoder import guess_encoder
from latentserve_training.foreign.guess.image_layout import guess_layout
from latentserve_training.foreign.guess.image_range import guess_range

_TEXTS = ("family", "dataset")


def guess(decoder: Path, encoder: Path | None, told: Mapping[str, Any]) -> Draft:
    """A draft of the files' description; what was told is in it as it is.

    Raises:
        ExportError: a file is no ONNX that can be read, or has no such tensor as was told.
    """
    draft = Draft(told)
    draft.guess("decoder.file", str(decoder), "")
    if encoder is not None:
        draft.guess("encoder.file", str(encoder), "")
    whole = _loaded("decoder", decoder)
    drawing = guess_decoder(draft, whole)
    read = None
    if encoder is None:
        guess_kind_alone(draft)
    else:
        reading = guess_encoder(draft, _loaded("encoder", encoder))
        pixels = draft.value("encoder.image")
        read = None if pixels is None else reading.shape(pixels)
    guess_prior(draft)
    image = draft.value("decoder.image")
    if image is not None:
        images = draw(draft, drawing, image)
        drawn = drawing.shape(image) or (None if images is None else images.shape[1:])
        guess_layout(draft, image, drawn, read)
        guess_range(draft, drawing, image, images)
    guess_likelihood(draft, drawing, image)
    for entry in whole.source.model.metadata_props:
        if entry.key in _TEXTS:
            draft.guess(entry.key, entry.value, "as the decoder's metadata has it")
    return draft


def _loaded(role: str, path: Path) -> ForeignGraph:
    """The graph in the file, of whose tensors is known what ONNX can infer.

    Raises:
        ExportError: it is no ONNX that can be read.
    """
    graph = ForeignGraph.load(role, path)
    try:
        whole = needed(graph, output_names(graph))
        _ = whole.inferred  # which is kept; what onnx has to say of the file it says here
    except Exception as error:  # onnx raises its own
        raise ExportError(f"{role}: {path}: not ONNX that can be used: {shortened(error)}") from error
    return whole
