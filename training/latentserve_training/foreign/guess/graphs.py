"""Two ONNX files of one model, asked for its description."""

from __future__ import annotations

from pathlib import Path

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


def guess(draft: Draft, decoder: Path, encoder: Path | None) -> None:
    """Settle or ask what the draft of the files' description is not told.

    Raises:
        ExportError: a file is no ONNX that can be read, or has no such tensor as was told.
    """
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
        drawn = drawing.shape(image)
        seen = drawn and draft.is_told("image_range") and draft.is_told("clip")  # a row of large images takes long
        images = None if seen else draw(draft, drawing, image)
        drawn = drawn or (None if images is None else images.shape[1:])
        guess_layout(draft, image, drawn, read)
        guess_range(draft, drawing, image, images)
    guess_likelihood(draft, drawing, image)
    for entry in whole.source.model.metadata_props:
        if entry.key in _TEXTS:
            draft.guess(entry.key, entry.value, "as the decoder's metadata has it")


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
