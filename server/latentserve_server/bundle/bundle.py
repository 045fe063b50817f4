"""One bundle, read and verified: manifest, graphs and golden rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import CALIBRATION_QUANTILES, MAX_LABELS, MIN_LABELS
from latentserve.picture import PictureError, check_reading
from latentserve.v1 import bundle_pb2 as pb
from latentserve.v1 import tensor_pb2
from latentserve_server.bundle.files import (
    MAX_FILE_BYTES,
    bundle_files,
    check_name,
    is_passing,
    open_file,
    read_arrays,
)
from latentserve_server.bundle.manifest_json import parse_manifest_json
from latentserve_server.bundle.mixture import parse_mixture
from latentserve_server.errors import BundleError, StoreFailure
from latentserve_server.latent.likelihood import LIKELIHOODS
from latentserve_server.latent.mixture import Mixture
from latentserve_server.latent.noise import MAX_LATENT_DIM

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
_READ_BYTES = 1 << 20
MAX_IMAGE_PIXELS = 1 << 24

_GRAPHS_OF_KIND = {
    pb.MODEL_KIND_VAE: {pb.GRAPH_ROLE_ENCODER, pb.GRAPH_ROLE_DECODER},
    pb.MODEL_KIND_GAN: {pb.GRAPH_ROLE_DECODER},
}

_DTYPE_CODES: Mapping[np.dtype[Any], tensor_pb2.DType] = {
    np.dtype(np.float32): tensor_pb2.DTYPE_FLOAT32,
    np.dtype(np.uint8): tensor_pb2.DTYPE_UINT8,
    np.dtype(np.int64): tensor_pb2.DTYPE_INT64,
}

TensorShapes = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
"""dtype and shape (without the batch axis) of each tensor, by name."""


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, every byte of it checked against the manifest."""

    manifest: pb.Manifest
    digest: str
    """SHA-256 of manifest.json, in hexadecimal."""
    graphs: Mapping[pb.GraphRole, bytes]
    """The serialized ONNX graphs, one of every role."""
    golden: Mapping[str, NDArray[Any]]
    """Inputs and outputs that the graphs must reproduce, named "<role>.<tensor>"."""
    mixture: Mixture | None = None
    """The mixture prior, where the bundle carries one."""
    precisions: Mapping[pb.GraphRole, pb.Precision] = field(default_factory=dict)
    """What each of the graphs computes in."""
    exact: Mapping[pb.GraphRole, bytes] = field(default_factory=dict)
    """The float32 graph of every role, serialized."""

    def entry(self, role: pb.GraphRole) -> pb.Graph:
        """What the manifest says of the role's graph."""
        key = role, self.precisions[role]
        return next(graph for graph in self.manifest.graphs if (graph.role, _precision(graph)) == key)

    def in_float32(self, role: pb.GraphRole) -> Bundle:
        """The bundle with the float32 graph of a role in the place of what it has."""
        precisions = {**self.precisions, role: pb.PRECISION_FLOAT32}
        return replace(self, graphs={**self.graphs, role: self.exact[role]}, precisions=precisions)

    def inputs(self, role: pb.GraphRole) -> TensorShapes:
        """The inputs that the contract demands of the graph."""
        image, latent = _tensor_shapes(self.manifest)
        inputs = {"image": image} if role == pb.GRAPH_ROLE_ENCODER else {"latent": latent}
        return inputs | ({"label": (np.dtype(np.int64), ())} if self.manifest.labels.count else {})

    def outputs(self, role: pb.GraphRole) -> TensorShapes:
        """The outputs that the contract demands of the graph."""
        image, latent = _tensor_shapes(self.manifest)
        if role == pb.GRAPH_ROLE_ENCODER:
            return {"mean": latent, "log_variance": latent}
        outputs = {"image": image, "image_uint8": (np.dtype(np.uint8), image[1])}
        likelihood = LIKELIHOODS.get(self.manifest.likelihood)
        return outputs | ({likelihood.own_output: image} if likelihood else {})


def read_bundle(
    directory: Path, precision: pb.Precision = pb.PRECISION_FLOAT32, links_within: Path | None = None
) -> Bundle:
    """Read and verify the bundle in `directory`; its graphs are those of `precision`, or float32 where it has none.

    Its files may be links that end inside `links_within`.

    Raises:
        BundleError: a file is missing, too large, or not what the manifest says; the manifest is not one.
        StoreFailure: a file cannot be read now.
    """
    raw = _read(directory, MANIFEST, MAX_MANIFEST_BYTES, links_within)
    manifest = _parse_manifest(raw)
    verified = [(graph, _read_verified(directory, graph.file, links_within)) for graph in manifest.graphs]
    exact = {graph.role: data for graph, data in verified if _precision(graph) == pb.PRECISION_FLOAT32}
    wanted = {graph.role: data for graph, data in verified if _precision(graph) == precision}
    precisions = dict.fromkeys(exact, pb.PRECISION_FLOAT32) | dict.fromkeys(wanted, precision)
    golden = read_arrays(_read_verified(directory, manifest.golden, links_within), "golden rows", MAX_FILE_BYTES)
    for file in manifest.files:
        _read_verified(directory, file, links_within)
    mixture = _read_mixture(directory, manifest.latent, links_within)
    bundle = Bundle(manifest, hashlib.sha256(raw).hexdigest(), {**exact, **wanted}, golden, mixture, precisions, exact)
    for graph in manifest.graphs:
        _check_tensors(graph, bundle)
        _check_golden(graph, bundle)
    return bundle


def listed_files(raw: bytes) -> list[pb.File]:
    """The files that the bytes of a manifest list.

    Raises:
        BundleError: the manifest is none, or a file has a name or a size that is not allowed.
    """
    return bundle_files(_parse_manifest(raw))


def role_name(role: pb.GraphRole) -> str:
    """ "encoder" or "decoder"."""
    return pb.GraphRole.Name(role).removeprefix("GRAPH_ROLE_").lower()


def _parse_manifest(raw: bytes) -> pb.Manifest:
    try:
        manifest = parse_manifest_json(raw)
    except BundleError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(f"{MANIFEST}: format_version {manifest.format_version} where {FORMAT_VERSION} is understood")
    _check(manifest.kind in _GRAPHS_OF_KIND, "kind", "is neither VAE nor GAN")
    bundle_files(manifest)
    _check(1 <= manifest.latent.dim <= MAX_LATENT_DIM, "latent.dim", f"is not in 1 to {MAX_LATENT_DIM}")
    _check(manifest.latent.prior == pb.PRIOR_STANDARD_NORMAL, "latent.prior", "is not PRIOR_STANDARD_NORMAL")
    image = manifest.image
    _check(image.channels in (1, 3), "image.channels", "is neither 1 nor 3")
    _check(0 < image.height * image.width <= MAX_IMAGE_PIXELS, "image", f"has no or over {MAX_IMAGE_PIXELS} pixels")
    _check((image.min_value, image.max_value) == (0.0, 1.0), "image", "has a value range other than 0 to 1")
    _check_reading(image.reading)
    _check_likelihood(manifest)
    _check_graphs(manifest)
    if manifest.HasField("labels"):
        _check_labels(manifest.labels)
    if manifest.HasField("calibration"):
        _check_calibration(manifest)
    return manifest


def _check_reading(reading: pb.PictureReading) -> None:
    try:
        check_reading(reading)
    except PictureError as error:
        raise BundleError(f"{MANIFEST}: image.reading.{error}") from error


def _check_likelihood(manifest: pb.Manifest) -> None:
    absent = manifest.likelihood == pb.LIKELIHOOD_UNSPECIFIED
    fits = absent if manifest.kind == pb.MODEL_KIND_GAN else manifest.likelihood in LIKELIHOODS
    _check(fits, "likelihood", "does not fit the kind of model")


def _check_graphs(manifest: pb.Manifest) -> None:
    """Each role of the kind has one float32 graph, and at most one of each other precision."""
    found = [(graph.role, _precision(graph)) for graph in manifest.graphs]
    roles = {role for role, precision in found if precision == pb.PRECISION_FLOAT32}
    expected = _GRAPHS_OF_KIND[manifest.kind]
    known = all(role in expected and precision in pb.Precision.values() for role, precision in found)
    fits = known and roles == expected and len(set(found)) == len(found)
    _check(fits, "graphs", "are not those of the kind of model")


def _check_labels(labels: pb.LabelSpec) -> None:
    _check(MIN_LABELS <= labels.count <= MAX_LABELS, "labels.count", f"is not in {MIN_LABELS} to {MAX_LABELS}")
    names = labels.names
    _check(len(names) in (0, labels.count), "labels.names", f"are {len(names)} where there are {labels.count} labels")
    _check(len(set(names)) == len(names), "labels.names", "has a name twice")


def _check_calibration(manifest: pb.Manifest) -> None:
    _check(manifest.kind == pb.MODEL_KIND_VAE, "calibration", "does not fit the kind of model")
    field, quantiles = "calibration.negative_elbo_quantiles", np.array(manifest.calibration.negative_elbo_quantiles)
    _check(
        len(quantiles) == CALIBRATION_QUANTILES, field, f"are {len(quantiles)} where {CALIBRATION_QUANTILES} are wanted"
    )
    _check(bool(np.isfinite(quantiles).all()), field, "has a value that is not finite")
    _check(bool((quantiles[1:] >= quantiles[:-1]).all()), field, "fall")
    _check(manifest.calibration.images >= 1, "calibration.images", "is not at least 1")


def _precision(graph: pb.Graph) -> pb.Precision:
    return graph.precision or pb.PRECISION_FLOAT32


def _read_mixture(directory: Path, latent: pb.LatentSpec, links_within: Path | None) -> Mixture | None:
    if not latent.HasField("mixture"):
        return None
    components = latent.mixture.components
    _check(components >= 1, "latent.mixture.components", "is not at least 1")
    return parse_mixture(_read_verified(directory, latent.mixture.file, links_within), components, latent.dim)


def _check(holds: bool, field: str, problem: str) -> None:
    if not holds:
        raise BundleError(f"{MANIFEST}: {field} {problem}")


def _read_verified(directory: Path, file: pb.File, links_within: Path | None) -> bytes:
    data = _read(directory, file.path, file.size_bytes, links_within)
    if len(data) != file.size_bytes:
        raise BundleError(f"{file.path}: {len(data)} bytes where the manifest says {file.size_bytes}")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise BundleError(f"{file.path}: the SHA-256 is not the manifest's; the file was changed or damaged")
    return data


def _read(directory: Path, name: str, max_bytes: int, links_within: Path | None) -> bytes:
    """The file's bytes; the name may not lead out of the bundle, and reading stops past `max_bytes`."""
    check_name(name)
    data = bytearray()
    try:
        with open_file(directory / name, links_within) as file:
            while part := file.read(_READ_BYTES):
                data += part
                if len(data) > max_bytes:
                    raise BundleError(f"{name}: longer than {max_bytes} bytes")
    except OSError as error:
        if is_passing(error):
            raise StoreFailure(f"{name}: {error.strerror}") from error
        raise BundleError(f"{name}: {error.strerror}") from error
    return bytes(data)


def _check_tensors(graph: pb.Graph, bundle: Bundle) -> None:
    for declared, demanded in ((graph.inputs, bundle.inputs(graph.role)), (graph.outputs, bundle.outputs(graph.role))):
        said = {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in declared}
        for name, (dtype, shape) in demanded.items():
            if said.get(name) != (_DTYPE_CODES[dtype], shape):
                raise BundleError(
                    f"{MANIFEST}: the {role_name(graph.role)}'s tensor {name!r} is not {dtype.name} {list(shape)}"
                )


def _check_golden(graph: pb.Graph, bundle: Bundle) -> None:
    rows: set[int] = set()
    for name, (dtype, shape) in (*bundle.inputs(graph.role).items(), *bundle.outputs(graph.role).items()):
        array = bundle.golden.get(f"{role_name(graph.role)}.{name}")
        if array is None or array.dtype != dtype or array.shape[1:] != shape:
            raise BundleError(f"golden rows: {role_name(graph.role)}.{name} is not {dtype.name} [rows, *{list(shape)}]")
        rows.add(len(array))
    if len(rows) != 1 or rows == {0}:
        raise BundleError(f"golden rows: the {role_name(graph.role)}'s tensors do not have the same number of rows")


def _tensor_shapes(
    manifest: pb.Manifest,
) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], tuple[np.dtype[Any], tuple[int, ...]]]:
    """dtype and shape of an image and of a latent."""
    image = manifest.image
    float32 = np.dtype(np.float32)
    return (float32, (image.channels, image.height, image.width)), (float32, (manifest.latent.dim,))
