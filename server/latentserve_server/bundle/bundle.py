"""One bundle: its files opened and verified, and what they hold."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from latentserve.dtypes import GRAPH_TYPES
from latentserve.v1 import bundle_pb2 as pb
from latentserve_server.bundle.manifest import (
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    check_name,
    parse_manifest,
    precision_of,
    role_name,
)
from latentserve_server.bundle.weights import Weights, read_weights
from latentserve_server.errors import BundleError, StoreFailure, is_passing
from latentserve_server.latent.codes import UnknownCode, check_codes
from latentserve_server.latent.likelihood import LIKELIHOODS
from latentserve_server.latent.prior import Mixture
from latentserve_server.model.kind import KINDS

_NOT_REGULAR = "not a regular file"
_LINK = "a link; put the file in its place, or name the folder where links end by --links-within"
_OPENED = Path("/proc/self/fd")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK

_MAX_ARRAYS = 64
_KINDS = "biuf"
_ZIP = b"PK\x03\x04"

MAX_FACTOR_BYTES = 1 << 29
"""What the factors of a mixture may take, in bytes."""

_WEIGHT_TOLERANCE = 1e-6

_FLOAT32 = np.dtype(np.float32)

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
    beside: Mapping[str, Weights] = field(default_factory=dict)
    """What lies beside these graphs, by the names of their files."""

    def entry(self, role: pb.GraphRole) -> pb.Graph:
        """What the manifest says of the role's graph."""
        key = role, self.precisions[role]
        return next(graph for graph in self.manifest.graphs if (graph.role, precision_of(graph)) == key)

    def weights(self, role: pb.GraphRole) -> Weights | None:
        """What lies beside the role's graph; None where all of it is in its file."""
        return self.beside.get(self.entry(role).file.path)

    def in_float32(self, role: pb.GraphRole) -> Bundle:
        """The bundle with the float32 graph of a role in the place of what it has."""
        precisions = {**self.precisions, role: pb.PRECISION_FLOAT32}
        return replace(self, graphs={**self.graphs, role: self.exact[role]}, precisions=precisions)

    @property
    def noises(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of one row of each of the decoder's noise inputs, by their names."""
        return {noise.name: tuple(noise.shape) for noise in self.manifest.noises}

    def inputs(self, role: pb.GraphRole) -> TensorShapes:
        """The inputs that the contract demands of the graph."""
        image, latent = _tensor_shapes(self.manifest)
        inputs: Mapping[pb.GraphRole, TensorShapes] = {
            pb.GRAPH_ROLE_ENCODER: {"image": image},
            pb.GRAPH_ROLE_DECODER: {
                KINDS[self.manifest.kind].decodes: latent,
                **{name: (_FLOAT32, shape) for name, shape in self.noises.items()},
                **({"psi": (_FLOAT32, ())} if self.manifest.HasField("psi") else {}),
            },
            pb.GRAPH_ROLE_PRIOR: {"noise": (_FLOAT32, (self.manifest.latent.noise_dim,))},
        }
        return {**inputs[role], **({"label": (np.dtype(np.int64), ())} if self.manifest.labels.count else {})}

    def outputs(self, role: pb.GraphRole) -> TensorShapes:
        """The outputs that the contract demands of the graph."""
        image, latent = _tensor_shapes(self.manifest)
        kind = KINDS[self.manifest.kind]
        if role == pb.GRAPH_ROLE_ENCODER:
            return dict.fromkeys(kind.encodes, latent)
        if role == pb.GRAPH_ROLE_PRIOR:
            return {kind.decodes: latent}
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
    manifest, digest = read_manifest(directory, links_within)
    verified = [(graph, _read_verified(directory, graph.file, links_within)) for graph in manifest.graphs]
    exact = {graph.role: data for graph, data in verified if precision_of(graph) == pb.PRECISION_FLOAT32}
    wanted = {graph.role: data for graph, data in verified if precision_of(graph) == precision}
    precisions = dict.fromkeys(exact, pb.PRECISION_FLOAT32) | dict.fromkeys(wanted, precision)
    golden = read_arrays(_read_verified(directory, manifest.golden, links_within), "golden rows", MAX_FILE_BYTES)
    for file in manifest.files:
        _read_verified(directory, file, links_within)
    mixture = _read_mixture(directory, manifest.latent, links_within)
    beside = {
        graph.file.path: weights
        for graph, weights in _read_all_weights(directory, manifest, links_within)
        if precision_of(graph) in (precision, pb.PRECISION_FLOAT32)
    }
    bundle = Bundle(manifest, digest, {**exact, **wanted}, golden, mixture, precisions, exact, beside)
    for graph in manifest.graphs:
        _check_tensors(graph, bundle)
        _check_golden(graph, bundle)
    return bundle


def read_manifest(directory: Path, links_within: Path | None = None) -> tuple[pb.Manifest, str]:
    """The manifest of the bundle in `directory`, checked, and its SHA-256 in hexadecimal.

    Raises:
        BundleError: it is missing, or none. StoreFailure: it cannot be read now.
    """
    raw = _read(directory, MANIFEST, MAX_MANIFEST_BYTES, links_within)
    return parse_manifest(raw), hashlib.sha256(raw).hexdigest()


def open_file(path: Path, links_within: Path | None = None) -> BufferedReader:
    """A bundle's file, to be read. Nobody is waited for at the other end of a pipe.

    A link is followed only where it ends inside `links_within`: who can write a repository could name any file of this
    machine by one, and learn from the answer whether it has the bytes of a digest.

    Raises:
        OSError: it cannot be opened, is not a regular file, or is a link that is not to be followed.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            descriptor = _open_link(path, links_within)
        elif error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.EINVAL, _NOT_REGULAR, str(path)) from error
        else:
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NOT_REGULAR, str(path))
    return os.fdopen(descriptor, "rb")


def read_arrays(data: bytes, what: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file of at most `max_bytes`, by name.

    `what` names the file's content in error messages.

    Raises:
        BundleError: it is no such file, is too large, or holds too many arrays, or arrays of no numbers that NumPy has.
    """
    if data.startswith(_ZIP):
        raise BundleError(f"{what}: a NumPy archive, as of an early version of the format; export the model again")
    if len(data) > max_bytes:
        raise BundleError(f"{what}: {len(data)} bytes where {max_bytes} are allowed")
    try:
        arrays: dict[str, NDArray[Any]] = load(data)
    except Exception as error:  # of its own kind, and NumPy's for types that it has not
        raise BundleError(f"{what}: not a safetensors file: {error}") from error
    if len(arrays) > _MAX_ARRAYS:
        raise BundleError(f"{what}: {len(arrays)} arrays where {_MAX_ARRAYS} are allowed")
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise BundleError(f"{what}: {name} holds {array.dtype}, no numbers")
    return arrays


def parse_mixture(data: bytes, components: int, dim: int) -> Mixture:
    """The mixture in a safetensors file of "weights", "means" and "factors".

    Raises:
        BundleError: it is no such file, or its arrays are not those of a mixture of so many components and
            dimensions.
    """
    if 4 * components * dim * dim > MAX_FACTOR_BYTES:
        raise BundleError(f"mixture: the factors of {components} components are over {MAX_FACTOR_BYTES} bytes")
    arrays = read_arrays(data, "mixture", MAX_FACTOR_BYTES)
    _check_array(arrays, "weights", np.dtype(np.float64), (components,))
    _check_array(arrays, "means", np.dtype(np.float32), (components, dim))
    _check_array(arrays, "factors", np.dtype(np.float32), (components, dim, dim))
    weights, factors = arrays["weights"], arrays["factors"]
    if not (weights > 0).all() or abs(math.fsum(weights) - 1) > _WEIGHT_TOLERANCE:
        raise BundleError(f"mixture: the weights are not positive with sum 1 within {_WEIGHT_TOLERANCE:g}")
    if any(np.triu(factor, 1).any() for factor in factors):
        raise BundleError("mixture: the factors are not lower triangular")
    if not (np.diagonal(factors, axis1=1, axis2=2) > 0).all():
        raise BundleError("mixture: the factors' diagonals are not positive")
    return Mixture(weights, arrays["means"], factors)


def _read_mixture(directory: Path, latent: pb.LatentSpec, links_within: Path | None) -> Mixture | None:
    if not latent.HasField("mixture"):
        return None
    mixture = latent.mixture
    return parse_mixture(_read_verified(directory, mixture.file, links_within), mixture.components, latent.dim)


def _read_all_weights(
    directory: Path, manifest: pb.Manifest, links_within: Path | None
) -> Iterator[tuple[pb.Graph, Weights]]:
    """The weights beside every graph that has any, one at a time."""
    for graph in manifest.graphs:
        if graph.HasField("weights"):
            name = graph.weights.path
            with _opening(name), open_file(directory / name, links_within) as file:
                weights = read_weights(graph.weights, file.fileno())
            yield graph, weights


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
    with _opening(name), open_file(directory / name, links_within) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, max_bytes) + 1)  # at once: what grows by parts is copied again and again
    if len(data) > max_bytes:
        raise BundleError(f"{name}: longer than {max_bytes} bytes")
    return data


@contextmanager
def _opening(name: str) -> Iterator[None]:
    """Name the file that cannot be read.

    Raises:
        BundleError, StoreFailure: in the place of OSError.
    """
    try:
        yield
    except OSError as error:
        if is_passing(error):
            raise StoreFailure(f"{name}: {error.strerror}") from error
        raise BundleError(f"{name}: {error.strerror}") from error


def _check_tensors(graph: pb.Graph, bundle: Bundle) -> None:
    for declared, demanded in ((graph.inputs, bundle.inputs(graph.role)), (graph.outputs, bundle.outputs(graph.role))):
        said = {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in declared}
        for name, (dtype, shape) in demanded.items():
            if said.get(name) != (GRAPH_TYPES[dtype].code, shape):
                raise BundleError(
                    f"{MANIFEST}: the {role_name(graph.role)}'s tensor {name!r} is not {dtype.name} {list(shape)}"
                )


def _check_golden(graph: pb.Graph, bundle: Bundle) -> None:
    rows: set[int] = set()
    for name, (dtype, shape) in (*bundle.inputs(graph.role).items(), *bundle.outputs(graph.role).items()):
        array = bundle.golden.get(f"{role_name(graph.role)}.{name}")
        if array is None or array.dtype != dtype or array.shape[1:] != shape:
            raise BundleError(f"golden rows: {role_name(graph.role)}.{name} is not {dtype.name} [rows, *{list(shape)}]")
        if name == "codes":
            _check_codes(f"{role_name(graph.role)}.codes", array, bundle.manifest.latent.codes)
        rows.add(len(array))
    if len(rows) != 1 or rows == {0}:
        raise BundleError(f"golden rows: the {role_name(graph.role)}'s tensors do not have the same number of rows")


def _check_codes(name: str, rows: NDArray[np.int64], known: int) -> None:
    try:
        check_codes(rows, known)
    except UnknownCode as error:
        raise BundleError(f"golden rows: {name}: {error}") from error


def _tensor_shapes(
    manifest: pb.Manifest,
) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], tuple[np.dtype[Any], tuple[int, ...]]]:
    """dtype and shape of an image and of a latent."""
    image = manifest.image
    latent = np.dtype(np.int64) if KINDS[manifest.kind].has_codes else _FLOAT32
    return (_FLOAT32, (image.channels, image.height, image.width)), (latent, (manifest.latent.dim,))


def _check_array(arrays: Mapping[str, NDArray[Any]], name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    array = arrays.get(name)
    if array is None:
        raise BundleError(f"mixture: there is no array {name!r}")
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(f"mixture: {name} is {array.dtype.name} {list(array.shape)}, not {dtype.name} {list(shape)}")
    if not np.isfinite(array).all():
        raise BundleError(f"mixture: {name} has a value that is not finite")


def _open_link(path: Path, links_within: Path | None) -> int:
    if links_within is None:
        raise OSError(errno.EINVAL, _LINK, str(path))
    end = Path(os.path.realpath(path, strict=True))
    if not end.is_relative_to(os.path.realpath(links_within)):
        raise OSError(errno.EINVAL, f"a link that ends outside of --links-within {links_within}", str(path))
    descriptor = os.open(end, _FLAGS)
    opened = _OPENED / str(descriptor)
    if _OPENED.is_dir() and opened.readlink() != end:  # a folder on the way became a link since
        os.close(descriptor)
        raise OSError(errno.EAGAIN, "a link that changed while it was opened", str(path))
    return descriptor
