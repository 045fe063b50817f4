"""The manifest: its JSON read, its fields checked, and the files that it lists. Errors name the field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message

from latentserve.contract import (
    CALIBRATION_QUANTILES,
    CHANNELS,
    MAX_BATCH_ROWS,
    MAX_IMAGE_PIXELS,
    MAX_LABELS,
    MAX_LATENT_DIM,
    MAX_LATENT_SIDES,
    MAX_NOISE_INPUTS,
    MIN_LABELS,
    TENSORS,
)
from latentserve.picture import PictureError, check_reading
from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle.complaint import complaint, shown
from latentserve_server.errors import BundleError
from latentserve_server.model.abilities import carried_priors
from latentserve_server.model.kind import KINDS, NO_PRIOR, Kind

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_GRAPH_BYTES = 1 << 30
MAX_FILE_BYTES = 512 << 20
"""The most for every other file."""
MAX_BUNDLE_BYTES = 4 << 30
"""The most for all files together, but for weights beside graphs, which may take what memory there is."""
_MOST_BYTES = (1 << 63) - 1
MAX_FILES = 64
_MAX_NAME_BYTES = 255

_PRECISIONS: Mapping[str, pb.Precision] = {
    "float32": pb.PRECISION_FLOAT32,
    "float16": pb.PRECISION_FLOAT16,
    "int8": pb.PRECISION_INT8,
}


_UNFIT = "does not fit the kind of model"

_INTEGER_DIGITS = 40
"""More are no integer that a field holds."""


def parse_manifest(raw: bytes) -> pb.Manifest:
    """The manifest that the bytes are, of a format and with fields that are understood.

    Raises:
        BundleError: they are none, or a field says what is not allowed.
    """
    try:
        manifest = _parse_json(raw)
    except BundleError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(f"{MANIFEST}: format_version {manifest.format_version} where {FORMAT_VERSION} is understood")
    _check_kind(manifest)
    _files_beside(manifest)
    _check_latent_shape(manifest.latent)
    image = manifest.image
    _check(image.channels in CHANNELS, "image.channels", f"is not in {CHANNELS[0]} to {CHANNELS[-1]}")
    _check(0 < image.height * image.width <= MAX_IMAGE_PIXELS, "image", f"has no or over {MAX_IMAGE_PIXELS} pixels")
    _check((image.min_value, image.max_value) == (0.0, 1.0), "image", "has a value range other than 0 to 1")
    _check_reading(image.reading)
    _check_batch_rows(manifest.graphs)
    _check_noises(manifest)
    _check_psi(manifest.psi)
    if manifest.HasField("labels"):
        _check_labels(manifest.labels)
    if manifest.HasField("calibration"):
        _check_calibration(manifest.calibration, manifest.latent.dim)
    return manifest


def listed_files(raw: bytes) -> list[pb.File]:
    """The files that the bytes of a manifest list.

    Raises:
        BundleError: the manifest is none, or a file has a name or a size that is not allowed.
    """
    return _files_beside(parse_manifest(raw))


def _files_beside(manifest: pb.Manifest) -> list[pb.File]:
    """The files of a bundle beside its manifest, each once.

    Raises:
        BundleError: there are too many, they are too large or two of them have one name; or a name is no plain one.
    """
    listed = list(_files_in(manifest))
    if len(listed) > MAX_FILES:
        raise BundleError(f"the manifest lists {len(listed)} files where {MAX_FILES} are allowed")
    graphs = {graph.file.path for graph in manifest.graphs}
    weights = {graph.weights.path for graph in manifest.graphs if graph.HasField("weights")}
    files: dict[str, pb.File] = {}
    for file in listed:
        check_name(file.path)
        limit = _MOST_BYTES if file.path in weights else MAX_GRAPH_BYTES if file.path in graphs else MAX_FILE_BYTES
        if not 0 <= file.size_bytes <= limit:
            raise BundleError(f"{file.path}: the manifest says {file.size_bytes} bytes where {limit} are allowed")
        if files.setdefault(file.path, file) != file:
            raise BundleError(f"{file.path}: the manifest lists two different files of this name")
    total = sum(file.size_bytes for file in files.values() if file.path not in weights)
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(f"the files have {total} bytes where {MAX_BUNDLE_BYTES} are allowed")
    return list(files.values())


def check_name(name: str) -> None:
    """Hold a name to what cannot lead out of the bundle.

    Raises:
        BundleError: it does, or may not be a file's name.
    """
    is_plain = name not in ("", ".", "..") and Path(name).name == name and "\0" not in name
    if not is_plain or len(name.encode()) > _MAX_NAME_BYTES:
        raise BundleError(f"{name!r}: a bundle's file is a plain name inside it; the manifest names another")


def role_name(role: pb.GraphRole) -> str:
    """ "encoder", "decoder" or "prior"."""
    return pb.GraphRole.Name(role).removeprefix("GRAPH_ROLE_").lower()


def precision_of(graph: pb.Graph) -> pb.Precision:
    """What a graph computes in."""
    return graph.precision or pb.PRECISION_FLOAT32


def precision_named(name: str) -> pb.Precision:
    """The precision of a name in lower case, such as "float16"."""
    return _PRECISIONS[name]


def precision_name(precision: pb.Precision) -> str:
    """The name of a precision."""
    return pb.Precision.Name(precision).removeprefix("PRECISION_").lower()


def _check_kind(manifest: pb.Manifest) -> None:
    kinds = ", ".join(pb.ModelKind.Name(kind) for kind in KINDS)
    _check(manifest.kind in KINDS, "kind", f"is none of {kinds}")
    kind = KINDS[manifest.kind]
    _check_latent(manifest.latent, kind)
    _check(manifest.likelihood in kind.likelihoods, "likelihood", _UNFIT)
    _check_graphs(manifest, kind)
    _check_prior(manifest, kind)
    if manifest.HasField("calibration"):
        _check(kind.has_variances, "calibration", _UNFIT)


def _check_latent(latent: pb.LatentSpec, kind: Kind) -> None:
    _check(1 <= latent.dim <= MAX_LATENT_DIM, "latent.dim", f"is not in 1 to {MAX_LATENT_DIM}")
    if kind.has_codes:
        _check(latent.codes >= 1, "latent.codes", "is not at least 1")
        _check(not latent.HasField("mixture"), "latent.mixture", _UNFIT)
    else:
        _check(latent.codes == 0, "latent.codes", _UNFIT)
    if latent.HasField("mixture"):
        _check(latent.mixture.components >= 1, "latent.mixture.components", "is not at least 1")


def _check_graphs(manifest: pb.Manifest, kind: Kind) -> None:
    """Each role of the kind, and perhaps a prior, has one float32 graph, and at most one of each other precision."""
    exact = pb.PRECISION_FLOAT32
    found = [(graph.role, graph.precision or exact) for graph in manifest.graphs]
    roles = {role for role, precision in found if precision == exact}
    known = all(role in roles and precision in pb.Precision.values() for role, precision in found)
    fits = known and kind.roles <= roles <= kind.roles | {pb.GRAPH_ROLE_PRIOR} and len(set(found)) == len(found)
    _check(fits, "graphs", "are not those of the kind of model")
    if kind.has_codes:
        lower = {role for role, precision in found if precision != exact} - {pb.GRAPH_ROLE_DECODER}
        _check(not lower, "graphs", "that give codes are float32 alone: codes have no signal-to-noise ratio")


def _check_prior(manifest: pb.Manifest, kind: Kind) -> None:
    latent, named, carried = manifest.latent, manifest.latent.prior, carried_priors(manifest)
    allowed = ", ".join(pb.Prior.Name(prior) for prior in sorted(kind.priors))
    _check(named in kind.priors, "latent.prior", f"is none of {allowed}")
    if named == NO_PRIOR:
        _check(not carried, "latent.prior", "is unspecified where the bundle carries a prior")
    elif named != pb.PRIOR_STANDARD_NORMAL:
        _check(named in carried, "latent.prior", "names what the bundle does not carry")
    if pb.PRIOR_GRAPH in carried:
        _check(1 <= latent.noise_dim <= MAX_LATENT_DIM, "latent.noise_dim", f"is not in 1 to {MAX_LATENT_DIM}")
    else:
        _check(latent.noise_dim == 0, "latent.noise_dim", "is there without a prior graph")


def _check_latent_shape(latent: pb.LatentSpec) -> None:
    shape = list(latent.shape)
    if not shape:
        return
    sides = f"has {len(shape)} sides where {MAX_LATENT_SIDES} are allowed"
    _check(len(shape) <= MAX_LATENT_SIDES, "latent.shape", sides)
    _check(min(shape) >= 1, "latent.shape", "has a side of 0")
    values = math.prod(shape)
    _check(values == latent.dim, "latent.shape", f"has {values} values where latent.dim is {latent.dim}")


def _check_reading(reading: pb.PictureReading) -> None:
    try:
        check_reading(reading)
    except PictureError as error:
        raise BundleError(f"{MANIFEST}: image.reading.{error}") from error


def _check_batch_rows(graphs: Sequence[pb.Graph]) -> None:
    for index, graph in enumerate(graphs):
        field = f"graphs[{index}].batch_rows"
        _check(
            graph.batch_rows <= MAX_BATCH_ROWS, field, f"is {graph.batch_rows}; at most {MAX_BATCH_ROWS} are allowed"
        )


def _check_noises(manifest: pb.Manifest) -> None:
    noises, has_prior = manifest.noises, any(graph.role == pb.GRAPH_ROLE_PRIOR for graph in manifest.graphs)
    others = ("", *TENSORS, *(("noise",) if has_prior else ()), *(("psi",) if manifest.HasField("psi") else ()))
    _check(len(noises) <= MAX_NOISE_INPUTS, "noises", f"are {len(noises)}; at most {MAX_NOISE_INPUTS} are allowed")
    for index, noise in enumerate(noises):
        field, values = f"noises[{index}]", math.prod(noise.shape)
        _check(noise.name not in others, f"{field}.name", f"is {noise.name!r}, which is another tensor's")
        _check(1 <= values <= MAX_LATENT_DIM, f"{field}.shape", f"has {values} values, not 1 to {MAX_LATENT_DIM}")
    _check(len({noise.name for noise in noises}) == len(noises), "noises", "have a name twice")


def _check_psi(psi: pb.Psi) -> None:
    ordered = psi.min_value <= psi.default_value <= psi.max_value
    told = f"is {psi.default_value:g} in {psi.min_value:g} to {psi.max_value:g}; it must be finite, and in its range"
    _check(ordered and math.isfinite(psi.max_value - psi.min_value), "psi", told)


def _check_labels(labels: pb.LabelSpec) -> None:
    _check(MIN_LABELS <= labels.count <= MAX_LABELS, "labels.count", f"is not in {MIN_LABELS} to {MAX_LABELS}")
    names = labels.names
    _check(len(names) in (0, labels.count), "labels.names", f"are {len(names)} where there are {labels.count} labels")
    _check(len(set(names)) == len(names), "labels.names", "has a name twice")


def _check_calibration(calibration: pb.Calibration, latents: int) -> None:
    field, quantiles = "calibration.negative_elbo_quantiles", np.array(calibration.negative_elbo_quantiles)
    _check(
        len(quantiles) == CALIBRATION_QUANTILES, field, f"are {len(quantiles)} where {CALIBRATION_QUANTILES} are wanted"
    )
    _check(bool(np.isfinite(quantiles).all()), field, "has a value that is not finite")
    _check(bool((quantiles[1:] >= quantiles[:-1]).all()), field, "fall")
    _check(calibration.images >= 1, "calibration.images", "is not at least 1")
    means, variances = np.array(calibration.latent_means), np.array(calibration.latent_variances)
    for field, values in (("calibration.latent_means", means), ("calibration.latent_variances", variances)):
        wanted = f"are {len(values)} where {latents} are wanted, or none of both"
        _check(len(values) in (0, latents) and len(means) == len(variances), field, wanted)
        _check(bool(np.isfinite(values).all()), field, "has a value that is not finite")
    _check(bool((variances >= 0).all()), "calibration.latent_variances", "has a value below 0")


def _check(holds: bool, field: str, problem: str) -> None:
    if not holds:
        raise BundleError(f"{MANIFEST}: {field} {problem}")


def _files_in(message: Message) -> Iterator[pb.File]:
    """Every File in a message, wherever the schema has one."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if field.is_repeated else [value]:
            if isinstance(part, pb.File):
                yield part
            else:
                yield from _files_in(part)


def _parse_json(raw: bytes) -> pb.Manifest:
    """The manifest that the bytes are, whatever its fields say.

    Raises:
        BundleError: they are not JSON in UTF-8, or not that of a manifest. The message does not name the file.
    """
    try:
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise BundleError(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise BundleError(f"not JSON, in line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise BundleError("nested too deeply") from error
    manifest = pb.Manifest()
    if not isinstance(content, dict):
        raise BundleError(complaint(content, manifest.DESCRIPTOR))
    try:
        return json_format.ParseDict(content, manifest)
    except Exception as error:  # of Python's and protobuf's kinds, whichever the value meets first
        raise BundleError(complaint(content, manifest.DESCRIPTOR)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise BundleError(f"{shown(twice)} is there twice; a duplicate is not allowed")
    return content


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _INTEGER_DIGITS else float(digits)
