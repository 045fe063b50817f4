"""The import of a saved model: exported and described for the ordinary import, and held to its library's own run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from latentserve_training.export.destination import Destination
from latentserve_training.export.publish import CHECK_ROWS
from latentserve_training.foreign.check_rows import rows_to_check
from latentserve_training.foreign.guess.draft import Guess
from latentserve_training.foreign.import_model import import_model
from latentserve_training.foreign.label import labels_in_turn
from latentserve_training.foreign.latents import Latents
from latentserve_training.foreign.request import DescriptionRequest, ImportRequest
from latentserve_training.foreign.saved.request import SavedRequest
from latentserve_training.foreign.saved.saved_model import MIXTURE, Array, Network, SavedModel
from latentserve_training.foreign.setting import looked_up

_SEED = 0

Describe = Callable[[DescriptionRequest], ImportRequest | None]


def import_saved(
    request: SavedRequest, describe: Describe, warn: Callable[[str], None], note: Callable[[str], None]
) -> Path | None:
    """Load the model by its library, export it, import the files; returns the bundle's folder.

    `describe` makes an import of what is known; where that is None, nothing more is done. `warn` hears what is not
    promised, `note` what was understood and measured.

    Raises:
        ConfigError: the library is missing, or what it saved is not known here.
        ExportError: the library cannot load or export it, or the ordinary import refuses it. Nothing is left behind.
    """
    if request.options is not None:  # what cannot be published is said before a library is asked
        Destination.choose(request.options.repository, request.options.name, request.options.version)
    with TemporaryDirectory(prefix="latentserve-import-") as place:
        folder = Path(place)
        model = _open(request)
        described = describe(_exported(model, request, folder))
        if described is None:
            return None
        reference = folder / f"{request.library}.npz"
        arrays = _reference(model, described, note)
        np.savez(reference, allow_pickle=False, **arrays)
        return import_model(replace(described, reference=reference), warn, note)


def _open(request: SavedRequest) -> SavedModel:
    """The model, opened by its library; torch is imported where that runs on it."""
    if request.library == "diffusers":
        from latentserve_training.foreign.saved.diffusers_model import open_diffusers

        return open_diffusers(request)
    if request.library == "pythae":
        from latentserve_training.foreign.saved.pythae_model import open_pythae

        return open_pythae(request)
    from latentserve_training.foreign.saved.keras_model import open_keras

    return open_keras(request)


def _exported(model: SavedModel, request: SavedRequest, folder: Path) -> DescriptionRequest:
    """Write the model's graphs and its mixture into the folder; returns what is known of them."""
    reason = f"as {request.library} exports it; kept only while it is imported"
    decoder, encoder = folder / "decoder.onnx", None
    model.decoder.write(decoder)
    taken, drawn = _tensors(decoder)
    stated = [*model.stated, Guess("decoder.file", decoder.name, reason)]
    stated += _named("decoder", [*model.decoder.inputs, *model.decoder.outputs], [*taken, *drawn])
    if model.encoder is not None:
        encoder = folder / "encoder.onnx"
        model.encoder.write(encoder)
        taken, found = _tensors(encoder)
        roles = ("latent",) if model.encoder.outputs == ("mean",) else model.encoder.outputs
        stated += [Guess("encoder.file", encoder.name, reason)]
        stated += _named("encoder", [*model.encoder.inputs, *roles], [*taken, *found])
    places: dict[str, Any] = {path.stem: {"file": str(path)} for path in (decoder, encoder) if path is not None}
    if model.mixture is not None:
        np.savez(folder / MIXTURE, allow_pickle=False, **model.mixture)
        if looked_up(request.told, "prior") is None:
            places["prior"] = {"mixture": str(folder / MIXTURE)}
    return DescriptionRequest(
        decoder=decoder,
        encoder=encoder,
        source=request.path,
        told=request.told,
        options=request.options,
        stated=_without_scale(stated, request.told),
        places=places,
    )


def _named(role: str, words: Sequence[str], tensors: Sequence[str]) -> list[Guess]:
    """What a graph's tensors are, of which the library exports as many as the network has inputs and outputs."""
    return [Guess(f"{role}.{word}", name, "") for word, name in zip(words, tensors, strict=True)]


def _without_scale(stated: Sequence[Guess], told: Mapping[str, Any]) -> Sequence[Guess]:
    """What is stated, without a scale that belongs to another likelihood than the one that is told."""
    others = ("likelihood", "decoder.log_scale", "decoder.log_variance")
    if all(looked_up(told, key) is None for key in others):
        return stated
    return [guess for guess in stated if guess.key != "log_scale"]


def _tensors(path: Path) -> tuple[list[str], list[str]]:
    """The names of the graph's inputs and outputs, in their order."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in weights], [value.name for value in graph.output]


def _reference(model: SavedModel, request: ImportRequest, note: Callable[[str], None]) -> Mapping[str, Array]:
    """What the library itself makes of seeded latents, and of the pictures that it drew of them.

    There are 64 rows, fewer where one takes long, or where rounding decides a picture's codes.
    """
    described, random = request.description, np.random.default_rng(_SEED)
    latents = Latents.of(described)
    drawn = latents.own(latents.draw(random, CHECK_ROWS))
    arrays: dict[str, Any] = {"latent": drawn if latents.codes else drawn.astype(np.float32)}
    if described.label_count:
        arrays["label"] = labels_in_turn(described.label_count, CHECK_ROWS)

    def run(rows: int) -> float:
        began = time.perf_counter()
        model.decoder.compute(*(array[:rows] for array in arrays.values()))
        return time.perf_counter() - began

    rows = rows_to_check(run, CHECK_ROWS)
    arrays = {name: array[:rows] for name, array in arrays.items()}
    arrays |= model.decoder.compute(*arrays.values())
    if model.encoder is not None:
        arrays |= model.encoder.compute(arrays["image"])
    return _decided(arrays, model.encoder, request.reference_tolerance, note) if "codes" in arrays else arrays


def _decided(
    arrays: Mapping[str, Array], encoder: Network | None, tolerance: float, note: Callable[[str], None]
) -> Mapping[str, Array]:
    """The rows whose codes stay as they are where pixels change by the tolerance; without codes if there is none.

    Of a picture that lies between two codes the last bits of a sum choose one, and those are the library's own. Pixels
    are moved to and fro, since one way may lead away from the other code.
    """
    assert encoder is not None, "codes come from an encoder"
    nudges = np.random.default_rng(_SEED).standard_normal(arrays["image"].shape, dtype=np.float32)
    kept = np.ones(len(nudges), bool)
    for size in (tolerance, -tolerance):
        again = encoder.compute(arrays["image"] + np.float32(size) * nudges)["codes"]
        kept &= (again == arrays["codes"]).reshape(len(again), -1).all(axis=1)
    if not kept.all():
        turned = (
            f"{len(kept) - kept.sum()} of {len(kept)} pictures have codes that turn as pixels change by {tolerance:g}"
        )
        note(f"encoder: {turned}; they are not compared")
    if not kept.any():
        return {name: rows for name, rows in arrays.items() if name != "codes"}
    return {name: rows[kept] for name, rows in arrays.items()}
