"""What is said of a bundle that is refused: of its manifest, of its files, and of the arrays in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import TinyModel

from latentserve_server.bundle.bundle import read_bundle
from latentserve_server.errors import BundleError

ALL = TinyModel(components=3, labels=4, quantiles=tuple(range(101)), likelihood="gaussian")
MODELS = {
    "vae": TinyModel(),
    "all": ALL,
    "gan": TinyModel(kind="gan"),
    "labelled": TinyModel(labels=4),
    "flow": TinyModel(kind="autoencoder", noise_dim=2, likelihood=""),
    "vq": TinyModel(kind="vq", noise_dim=2, codes=4),
    "styled": TinyModel(psi=(1, 0, 1)),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A healthy bundle of each of MODELS. Not to be changed."""
    root = tmp_path_factory.mktemp("healthy")
    return {name: model.write(root / name) for name, model in MODELS.items()}


def told(bundle: Path) -> str:
    """What is said of a bundle that is refused."""
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    return str(caught.value)


def changed(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The manifest with another value in a field, which may be made of it; without the field where that is `...`."""
    value = value(manifest) if callable(value) else value
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place: Any = manifest
    for key in way:
        place = place[key] if isinstance(key, int) else place.setdefault(key, {})
    if value is ...:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return manifest


def beside(number: int, **fields: Any) -> Callable[[Any], Any]:
    """A graph like one that the manifest has, but for some fields."""
    return lambda manifest: manifest["graphs"][number] | fields


U32 = "it must be a whole number from 0 to 2^32 - 1"
KINDS = "MODEL_KIND_VAE, MODEL_KIND_GAN, MODEL_KIND_AUTOENCODER, MODEL_KIND_VQ"
PRIORS = "PRIOR_STANDARD_NORMAL, PRIOR_MIXTURE, PRIOR_GRAPH"
CODES = "graphs that give codes are float32 alone: codes have no signal-to-noise ratio"
GRAPHS, KIND = "graphs are not those of the kind of model", "does not fit the kind of model"
QUANTILES = "calibration.negative_elbo_quantiles"
MEANS, VARIANCES = "calibration.latent_means", "calibration.latent_variances"
LATENTS: dict[str, Any] = {
    "negative_elbo_quantiles": [*range(101)],
    "images": 5,
    "latent_means": [0, 0, 0],
    "latent_variances": [1, 1, 1],
}
MANIFESTS: list[tuple[str, str, Any, str]] = [
    ("vae", "format_version", 2, "format_version 2 where 1 is understood"),
    ("vae", "format_version", {}, f"format_version is {{}}; {U32}"),
    ("vae", "kind", "MODEL_KIND_UNSPECIFIED", f"kind is none of {KINDS}"),
    ("vae", "kind", [], f"kind is []; it must be one of MODEL_KIND_UNSPECIFIED, {KINDS}"),
    ("gan", "kind", "MODEL_KIND_VAE", f"likelihood {KIND}"),
    ("gan", "likelihood", "LIKELIHOOD_BERNOULLI", f"likelihood {KIND}"),
    ("vae", "name", 5, "name is 5; it must be a text"),
    ("vae", "latent.dim", 0, "latent.dim is not in 1 to 65536"),
    ("vae", "latent.dim", 65537, "latent.dim is not in 1 to 65536"),
    ("vae", "latent.dim", 4, "the decoder's tensor 'latent' is not float32 [4]"),
    ("vae", "latent.prior", "PRIOR_UNSPECIFIED", f"latent.prior is none of {PRIORS}"),
    ("vae", "latent.prior", "PRIOR_MIXTURE", "latent.prior names what the bundle does not carry"),
    ("gan", "latent.prior", "PRIOR_GRAPH", "latent.prior names what the bundle does not carry"),
    ("vae", "latent.noise_dim", 3, "latent.noise_dim is there without a prior graph"),
    ("vae", "latent.codes", 3, f"latent.codes {KIND}"),
    ("vae", "kind", "MODEL_KIND_VQ", "latent.codes is not at least 1"),
    ("flow", "latent.noise_dim", 0, "latent.noise_dim is not in 1 to 65536"),
    ("flow", "latent.noise_dim", 65537, "latent.noise_dim is not in 1 to 65536"),
    ("flow", "latent.noise_dim", 5, "the prior's tensor 'noise' is not float32 [5]"),
    ("flow", "latent.prior", "PRIOR_UNSPECIFIED", "latent.prior is unspecified where the bundle carries a prior"),
    ("flow", "latent.dim", 4, "the decoder's tensor 'latent' is not float32 [4]"),
    ("flow", "calibration", {"images": 5}, f"calibration {KIND}"),
    ("vq", "latent.codes", 0, "latent.codes is not at least 1"),
    ("vq", "latent.mixture", {"components": 1}, f"latent.mixture {KIND}"),
    ("vq", "latent.prior", "PRIOR_STANDARD_NORMAL", "latent.prior is none of PRIOR_UNSPECIFIED, PRIOR_GRAPH"),
    ("vq", "graphs.3", beside(1, precision="PRECISION_INT8"), CODES),
    ("vq", "graphs.3", beside(2, precision="PRECISION_FLOAT16"), CODES),
    ("vq", "graphs.3", beside(2, role="GRAPH_ROLE_UNSPECIFIED"), GRAPHS),
    ("all", "latent.mixture.components", 0, "latent.mixture.components is not at least 1"),
    ("vae", "latent.shape", [2, 2], "latent.shape has 4 values where latent.dim is 3"),
    ("vae", "latent.shape", [3, 0], "latent.shape has a side of 0"),
    ("vae", "latent.shape", [3, *[1] * 8], "latent.shape has 9 sides where 8 are allowed"),
    ("vae", "image.channels", 0, "image.channels is not in 1 to 1024"),
    ("vae", "image.channels", 1025, "image.channels is not in 1 to 1024"),
    ("vae", "image.channels", 3, "the decoder's tensor 'image' is not float32 [3, 4, 5]"),
    ("vae", "image.height", 0, "image has no or over 16777216 pixels"),
    ("vae", "image.width", 2**32 - 1, "image has no or over 16777216 pixels"),
    ("vae", "image.height", -1, f"image.height is -1; {U32}"),
    ("vae", "image.max_value", 255, "image has a value range other than 0 to 1"),
    ("vae", "image.min_value", -1, "image has a value range other than 0 to 1"),
    ("vae", "image.max_value", None, "image has a value range other than 0 to 1"),
    ("vae", "image.max_value", "much", 'image.max_value is "much"; it must be a number that a float32 holds'),
    ("vae", "image.reading.filter", 6, "image.reading.filter has a value that is not known"),
    ("vae", "image.reading.fit", 3, "image.reading.fit has a value that is not known"),
    ("vae", "image.reading.grey", 3, "image.reading.grey has a value that is not known"),
    ("vae", "image.reading.background.green", 256, "image.reading.background has a value that is not known"),
    (
        "vae",
        "image.depth",
        1,
        "image.depth is not a field; there are channels, height, width, min_value, max_value, reading",
    ),
    ("vae", "likelihood", "LIKELIHOOD_UNSPECIFIED", f"likelihood {KIND}"),
    ("all", "likelihood", 9, f"likelihood {KIND}"),
    ("all", "likelihood", "LIKELIHOOD_BERNOULLI", "the decoder's tensor 'logits' is not float32 [1, 4, 5]"),
    ("vae", "graphs", 5, "graphs is 5; it must be a list"),
    ("vae", "graphs.1", None, "graphs[1] is null; it must be an object"),
    ("vae", "graphs.1", ..., GRAPHS),
    ("vae", "graphs.0.precision", "PRECISION_INT8", GRAPHS),
    ("vae", "graphs.2", beside(0, precision="PRECISION_FLOAT32"), GRAPHS),
    ("vae", "graphs.2", beside(1, precision="PRECISION_UNSPECIFIED"), GRAPHS),
    ("vae", "graphs.2", beside(0, precision=9), GRAPHS),
    ("gan", "graphs.1", beside(0, role="GRAPH_ROLE_ENCODER"), GRAPHS),
    ("vae", "graphs.1.file", "x", 'graphs[1].file is "x"; it must be an object'),
    (
        "vae",
        "graphs.0.inputs.0.dtype",
        {"a": 1},
        "graphs[0].inputs[0].dtype is an object of 1; it must be one of DTYPE_UNSPECIFIED, DTYPE_FLOAT32, DTYPE_UINT8, "
        "DTYPE_FLOAT16, DTYPE_INT64",
    ),
    (
        "vae",
        "graphs.0.inputs.0.shape.0",
        [],
        "graphs[0].inputs[0].shape[0] is []; it must be a whole number from -2^63 to 2^63 - 1",
    ),
    ("vae", "labels", {"count": 4}, "the decoder's tensor 'label' is not int64 []"),
    ("vae", "graphs.0.batch_rows", 4097, "graphs[0].batch_rows is 4097; at most 4096 are allowed"),
    ("vae", "noises", [{"name": "", "shape": [1]}], "noises[0].name is '', which is another tensor's"),
    ("vae", "noises", [{"name": "latent", "shape": [1]}], "noises[0].name is 'latent', which is another tensor's"),
    ("flow", "noises", [{"name": "noise", "shape": [1]}], "noises[0].name is 'noise', which is another tensor's"),
    ("vae", "noises", [{"name": "a", "shape": [0]}], "noises[0].shape has 0 values, not 1 to 65536"),
    ("vae", "noises", [{"name": "a", "shape": [257, 256]}], "noises[0].shape has 65792 values, not 1 to 65536"),
    ("vae", "noises", [{"name": "a", "shape": [1]}] * 2, "noises have a name twice"),
    ("vae", "noises", [{"name": "a", "shape": [1]}] * 65, "noises are 65; at most 64 are allowed"),
    ("styled", "noises", [{"name": "psi", "shape": [1]}], "noises[0].name is 'psi', which is another tensor's"),
    ("vae", "noises", [{"name": "a", "shape": [2]}], "the decoder's tensor 'a' is not float32 [2]"),
    ("vae", "psi", {"max_value": 1}, "the decoder's tensor 'psi' is not float32 []"),
    ("vae", "psi", {"default_value": 2, "max_value": 1}, "psi is 2 in 0 to 1; it must be finite, and in its range"),
    ("vae", "psi", {"max_value": "Infinity"}, "psi is 0 in 0 to inf; it must be finite, and in its range"),
    ("vae", "psi", {"default_value": "NaN"}, "psi is nan in 0 to 0; it must be finite, and in its range"),
    ("all", "labels", {"count": 1}, "labels.count is not in 2 to 65536"),
    ("all", "labels", {}, "labels.count is not in 2 to 65536"),
    ("all", "labels", {"count": 65537}, "labels.count is not in 2 to 65536"),
    ("all", "labels", {"count": 4, "names": ["a"]}, "labels.names are 1 where there are 4 labels"),
    ("all", "labels", {"count": 2, "names": ["a", "a"]}, "labels.names has a name twice"),
    ("gan", "calibration", {"images": 5}, f"calibration {KIND}"),
    ("all", QUANTILES, [1, 2], f"{QUANTILES} are 2 where 101 are wanted"),
    ("all", f"{QUANTILES}.100", "Infinity", f"{QUANTILES} has a value that is not finite"),
    ("all", f"{QUANTILES}.100", -1, f"{QUANTILES} fall"),
    ("all", "calibration.images", 0, "calibration.images is not at least 1"),
    ("all", MEANS, [0, 1], f"{MEANS} are 2 where 3 are wanted, or none of both"),
    ("all", MEANS, [0, 1, 2], f"{MEANS} are 3 where 3 are wanted, or none of both"),
    ("all", VARIANCES, [1, 1, 1], f"{MEANS} are 0 where 3 are wanted, or none of both"),
    ("all", "calibration", LATENTS | {"latent_means": [0, "NaN", 0]}, f"{MEANS} has a value that is not finite"),
    (
        "all",
        "calibration",
        LATENTS | {"latent_variances": [1, 1, "NaN"]},
        f"{VARIANCES} has a value that is not finite",
    ),
    ("all", "calibration", LATENTS | {"latent_variances": [1, 0, -1]}, f"{VARIANCES} has a value below 0"),
    ("vae", "metrics", [1], "metrics is a list of 1; it must be an object whose values are each a number"),
    ("vae", "metrics.test_nats", None, "metrics.test_nats is null; it must be a number"),
    (
        "vae",
        "provenance",
        {"created_at": 5},
        'provenance.created_at is 5; it must be a time in UTC, such as "2026-01-31T12:00:00Z"',
    ),
]
FILES: list[tuple[str, Any, str]] = [
    ("golden.path", "../rows", "'../rows': {name}"),
    ("golden.path", "/etc/passwd", "'/etc/passwd': {name}"),
    ("golden.path", "", "'': {name}"),
    ("golden.path", ".", "'.': {name}"),
    ("golden.path", "..", "'..': {name}"),
    ("golden.path", "deeper/rows", "'deeper/rows': {name}"),
    ("golden.path", "golden\0", "'golden\\x00': {name}"),
    (
        "graphs.0.file.size_bytes",
        (1 << 30) + 1,
        "decoder.onnx: the manifest says 1073741825 bytes where 1073741824 are allowed",
    ),
    (
        "golden.size_bytes",
        (512 << 20) + 1,
        "golden.safetensors: the manifest says 536870913 bytes where 536870912 are allowed",
    ),
    (
        "files.0.size_bytes",
        (512 << 20) + 1,
        "CARD.md: the manifest says 536870913 bytes where 536870912 are allowed",
    ),
    (
        "golden.size_bytes",
        10**18,
        "golden.safetensors: the manifest says 1000000000000000000 bytes where 536870912 are allowed",
    ),
    ("files.0.size_bytes", -1, "CARD.md: the manifest says -1 bytes where 536870912 are allowed"),
    ("files.1", {"path": "CARD.md", "size_bytes": 1}, "CARD.md: the manifest lists two different files of this name"),
    (
        "files",
        [{"path": f"{number}.txt", "size_bytes": 1} for number in range(62)],
        "the manifest lists 65 files where 64 are allowed",
    ),
    (
        "files",
        [{"path": f"{number}.bin", "size_bytes": 512 << 20} for number in range(9)],
        "the files have {total} bytes where 4294967296 are allowed",
    ),
]
"""Of files whose names and sizes are wrong in the manifest."""


@pytest.mark.parametrize(("model", "field", "value", "message"), MANIFESTS)
def test_a_manifest_is_refused_with_the_field_that_is_wrong(
    bundles: dict[str, Path], tmp_path: Path, model: str, field: str, value: Any, message: str
) -> None:
    place = shutil.copytree(bundles[model], tmp_path / "bundle")
    manifest = changed(json.loads((place / "manifest.json").read_text()), field, value)
    (place / "manifest.json").write_text(json.dumps(manifest))
    assert told(place) == f"manifest.json: {message}"


@pytest.mark.parametrize(("field", "value", "message"), FILES)
def test_a_manifest_of_other_files_is_refused(
    bundles: dict[str, Path], tmp_path: Path, field: str, value: Any, message: str
) -> None:
    place = shutil.copytree(bundles["vae"], tmp_path / "bundle")
    manifest = changed(json.loads((place / "manifest.json").read_text()), field, value)
    (place / "manifest.json").write_text(json.dumps(manifest))
    listed = [*(graph["file"] for graph in manifest["graphs"]), manifest["golden"], *manifest["files"]]
    total = sum(int(file["size_bytes"]) for file in listed)
    name = "a bundle's file is a plain name inside it; the manifest names another"
    assert told(place) == message.format(name=name, total=total)


NOT_JSON = "not JSON, in line 1, column"
ANY_KIND = f"it must be one of MODEL_KIND_UNSPECIFIED, {KINDS}"
FIELDS = (
    "there are format_version, name, kind, latent, image, likelihood, graphs, golden, files, provenance, metrics, "
    "license, labels, calibration, noises, psi"
)
TEXTS: list[tuple[bytes, str]] = [
    (b"", f"{NOT_JSON} 1: ..."),
    (b"{", f"{NOT_JSON} 2: ..."),
    (b"\0", f"{NOT_JSON} 1: ..."),
    (b"\xff\xfe{}", "byte 0 is not UTF-8"),
    (b"[]", "it is []; it must be an object"),
    (b"null", "it is null; it must be an object"),
    (b"7", "it is 7; it must be an object"),
    (b'"text"', 'it is "text"; it must be an object'),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"latent": ' * 50_000, "nested too deeply"),
    (b'{"kind": 1, "kind": 2}', '"kind" is there twice; a duplicate is not allowed'),
    (b'{"kind": "NOPE"}', f'kind is "NOPE"; {ANY_KIND}'),
    (b'{"unknown": 1}', f"unknown is not a field; {FIELDS}"),
    (b'{"name": "' + b"x" * 900_000 + b'", "kind": "' + b"y" * 90_000 + b'"}', f'kind is "{"y" * 56}...; {ANY_KIND}'),
    (
        b'{"files": [' + b"{}," * 30_000 + b"5]}",
        "files is a list of 30001, and one of them is not an object as it should be",
    ),
    (b'{"files": {"' + b"x" * 900_000 + b'": 1}}', "files is an object of 1; it must be a list"),
    (b'{"' + b"x" * 900_000 + b'": 1}', f"{'x' * 57}... is not a field; {FIELDS}"),
    (b'{"image": {"height": ' + b"9" * 5000 + b"}}", f"image.height is Infinity; {U32}"),
    (b'{"name": "\\ud800"}', r'name is "\\ud800"; it must be a text'),
    (b"{}" + b" " * (1 << 20), "longer than 1048576 bytes"),
]


@pytest.mark.parametrize(("text", "message"), TEXTS, ids=lambda value: str(value)[:20])
def test_what_is_no_manifest_is_refused_in_one_short_line(
    bundles: dict[str, Path], tmp_path: Path, text: bytes, message: str
) -> None:
    place = shutil.copytree(bundles["vae"], tmp_path / "bundle")
    (place / "manifest.json").write_bytes(text)
    said = re.sub(r"(?<=column \d: ).+", "...", told(place))  # json's own words
    assert said == f"manifest.json: {message}"


def to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def to_socket(file: Path) -> None:
    file.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))


def to_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def to_link(file: Path) -> None:
    file.rename(file.parents[1] / "elsewhere")
    file.symlink_to(file.parents[1] / "elsewhere")


LINK = "a link; put the file in its place, or name the folder where links end by --links-within"
DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, "No such file or directory"),
    (to_pipe, "not a regular file"),
    (to_socket, "not a regular file"),
    (to_directory, "not a regular file"),
    (to_link, LINK),
    (lambda file: file.write_bytes(file.read_bytes() + b"x"), "longer than {size} bytes"),
    (lambda file: file.write_bytes(file.read_bytes()[:-1]), "{less} bytes where the manifest says {size}"),
    (
        lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
        "the SHA-256 is not the manifest's; the file was changed or damaged",
    ),
]
OF_THE_MANIFEST = DAMAGES[:5]
"""What may be wrong with the manifest's own file."""
BUNDLE = ("encoder.onnx", "decoder.onnx", "golden.safetensors", "mixture.safetensors", "CARD.md")


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        *(("manifest.json", *one) for one in OF_THE_MANIFEST),
        *((name, *one) for name in BUNDLE for one in DAMAGES),
    ],
)
def test_a_file_that_is_not_what_the_manifest_says_is_named(
    bundles: dict[str, Path], tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    place = shutil.copytree(bundles["all"], tmp_path / "bundle")
    size = (place / name).stat().st_size
    damage(place / name)
    assert told(place) == f"{name}: {message.format(size=size, less=size - 1)}"
