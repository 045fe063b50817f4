"""Decoders, generators and encoders in Keras's own files."""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentserve_training.errors import ConfigError
from latentserve_training.foreign.guess.draft import Guess
from latentserve_training.foreign.guess.posterior_names import is_mean, spread_of
from latentserve_training.foreign.saved.library import at_work, load_library
from latentserve_training.foreign.saved.request import SavedRequest
from latentserve_training.foreign.saved.saved_model import Array, Network, SavedModel, latent_size

_LABEL = re.compile(r"label|class|condition", re.IGNORECASE)


def open_keras(request: SavedRequest) -> SavedModel:
    """The model in the .keras file, and in that of its encoder. No code that a file brings runs.

    Raises:
        ConfigError: Keras is missing, or a file is none of its own, or holds what is not described by its names.
        ExportError: Keras cannot load it.
    """
    files = [path for path in (request.path, request.encoder) if path is not None]
    for path in files:
        if not path.is_file() or not zipfile.is_zipfile(path):
            found = "not a file of Keras" if path.exists() else "there is no such file"
            raise ConfigError(f"{path}: {found}; it must be a .keras file that Model.save wrote")
    os.environ.setdefault("KERAS_BACKEND", "torch")  # which is here, and Keras reads it as it is imported
    keras = load_library("keras")
    decoder, *encoders = (_load(keras, path) for path in files)
    labels = _labels(keras, decoder, request.path)
    latent = _latent(decoder)
    sizes = [] if None in latent.shape[1:] else [latent_size(latent.shape[1:], f"the input {latent.name!r}")]
    encoder = _encoder(keras, encoders[0], latent.shape[1:], files[1]) if encoders else None
    return SavedModel(
        stated=(*_kind(encoder), *labels, *sizes, Guess("family", f"Keras {decoder.name}", "the model's name")),
        decoder=_network(keras, decoder, ("image",), labels[0].value if labels else 0),
        encoder=encoder,
    )


def _load(keras: Any, path: Path) -> Any:
    code = "keras cannot load it without code of its own, such as a custom layer or a Lambda"
    with at_work(f"{path}: {code}, or it is damaged"):
        model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
    if not getattr(model, "inputs", None):
        raise ConfigError(f"{path}: its inputs are not known; save a functional or sequential model")
    return model


def _latent(model: Any) -> Any:
    """The input that is no label."""
    return next(tensor for tensor in model.inputs if not _is_label(model, tensor))


def _is_label(model: Any, tensor: Any) -> bool:
    return len(model.inputs) > 1 and bool(_LABEL.search(tensor.name) or "int" in tensor.dtype)


def _labels(keras: Any, model: Any, path: Path) -> Sequence[Guess]:
    """How many labels a conditional model has, by the width of its one-hot input or by its embedding."""
    found = [tensor for tensor in model.inputs if _is_label(model, tensor)]
    names = [tensor.name for tensor in model.inputs]
    if len(model.inputs) - len(found) != 1 or len(found) > 1:
        raise ConfigError(f"{path}: inputs are {', '.join(names)}; they must be the latent, and perhaps one of labels")
    if len(model.outputs) != 1:
        raise ConfigError(f"{path}: it has {len(model.outputs)} outputs; a decoder has one, its pictures")
    if not found:
        return []
    width = found[0].shape[-1] if len(found[0].shape) == 2 else 1
    if width and width > 1:
        return [Guess("labels", int(width), f"the width of {found[0].name!r}")]
    tables = [layer.input_dim for layer in model.layers if isinstance(layer, keras.layers.Embedding)]
    if len(tables) != 1:
        raise ConfigError(
            f"{path}: {found[0].name} takes numbers, and no single Embedding tells how many labels there are"
        )
    return [Guess("labels", int(tables[0]), "the entries of the Embedding")]


def _encoder(keras: Any, model: Any, sides: tuple[Any, ...], path: Path) -> Network:
    """The encoder: of more than one output names tell mean and spread; what else there is is left out."""
    if len(model.inputs) != 1:
        raise ConfigError(f"{path}: it has {len(model.inputs)} inputs; an encoder has one, its pictures")
    if len(model.outputs) == 1:
        own = model.outputs[0].shape[1:]
        if None not in (*own, *sides) and math.prod(own) != math.prod(sides):
            apart = "a mean and a spread must be outputs of their own"
            raise ConfigError(f"{path}: its output is {list(own)}, where a latent is {list(sides)}; {apart}")
        return _network(keras, model, ("mean",))
    names = [str(name) for name in model.output_names]
    spreads = {name: spread_of(name) for name in names}
    found = [(spread or "mean", name) for name, spread in spreads.items() if spread or is_mean(name, names)]
    roles = sorted((role for role, _ in found), key=lambda role: role != "mean")
    if len(found) != 2 or roles[0] != "mean" or roles[1] == "mean":
        wanted = "their layers must call one mean or mu, another log_var, variance, log_std or std"
        raise ConfigError(f"{path}: outputs are {', '.join(names)}; {wanted}")
    chosen = {role: model.outputs[names.index(name)] for role, name in found}
    return _network(keras, keras.Model(model.inputs, [chosen[role] for role in roles]), tuple(roles))


def _kind(encoder: Network | None) -> Sequence[Guess]:
    """What an encoder makes of a model; of one without there is nothing to say."""
    if encoder is None:
        return []
    if encoder.outputs == ("mean",):
        return [Guess("kind", "autoencoder", "the encoder gives one latent, and no distribution")]
    return [Guess("kind", "vae", "the names of the encoder's layers tell a mean and a spread")]


def _network(keras: Any, model: Any, outputs: tuple[str, ...], labels: int = 0) -> Network:
    """The model as Keras runs it, without training, and as it exports it."""
    role, main = ("decoder", "latent") if outputs == ("image",) else ("encoder", "image")
    inputs = tuple("label" if _is_label(model, tensor) else main for tensor in model.inputs)

    def run(*rows: Array) -> Sequence[Array]:
        given = dict(zip((main, "label"), rows, strict=False))
        taken = [_taken(given[name], tensor, labels) for name, tensor in zip(inputs, model.inputs, strict=True)]
        with at_work(f"{role}: keras cannot run it"):
            found = model(taken[0] if len(taken) == 1 else taken, training=False)
            found = found if isinstance(found, (list, tuple)) else [found]
            return [np.asarray(keras.ops.convert_to_numpy(tensor)) for tensor in found]

    def write(path: Path) -> None:
        shapes = {name: (1, *tensor.shape[1:]) for name, tensor in zip(inputs, model.inputs, strict=True)}
        run(*(np.zeros(shapes[name]) for name in (main, "label") if name in shapes))  # it exports what has been called
        with at_work(f"{role}: keras cannot export it"):
            model.export(str(path), format="onnx", verbose=False)

    return Network(inputs=inputs, outputs=outputs, run=run, write=write)


def _taken(rows: Array, tensor: Any, labels: int) -> Array:
    """The rows as an input takes them: numbers of labels one-hot where it wants so."""
    if labels and rows.ndim == 1 and len(tensor.shape) == 2:
        rows = np.eye(labels)[rows] if tensor.shape[-1] == labels else rows[:, None]
    return np.asarray(rows, tensor.dtype)
