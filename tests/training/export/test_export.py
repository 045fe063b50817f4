"""What a bundle promises, held against the file system, onnxruntime and torch; and what keeps a bad one back."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf.json_format import Parse
from PIL import Image
from safetensors.numpy import load_file
from training.full_disk import run_within

from latentserve.v1 import bundle_pb2, tensor_pb2
from latentserve_server.bundle.bundle import read_bundle
from latentserve_training import commands
from latentserve_training.data import READING
from latentserve_training.errors import ExportError
from latentserve_training.export.bundle import staging
from latentserve_training.run.trained_model import TrainedModel

BIN = Path(sys.executable).parent
FAMILIES = ["conv_vae", "mlp_vae", "mlp_gan"]
Bundles = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]


def manifest_of(bundle: Path) -> bundle_pb2.Manifest:
    return Parse((bundle / "manifest.json").read_text(), bundle_pb2.Manifest())


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def role_of(graph: bundle_pb2.Graph) -> str:
    return "encoder" if graph.role == bundle_pb2.GRAPH_ROLE_ENCODER else "decoder"


@pytest.mark.parametrize("family", FAMILIES)
def test_its_files_may_be_read_by_all_who_may_read_what_its_maker_writes(
    exported: Bundles, tmp_path: Path, family: str
) -> None:
    bundle, other = exported(family), tmp_path / "other"
    other.touch()
    assert {file.stat().st_mode for file in bundle.iterdir()} == {other.stat().st_mode}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_manifest_names_every_file_with_its_size_and_digest(exported: Bundles, family: str) -> None:
    bundle = exported(family)
    manifest = manifest_of(bundle)
    files = [*(graph.file for graph in manifest.graphs), manifest.golden, *manifest.files]
    files += [manifest.latent.mixture.file] if manifest.latent.HasField("mixture") else []  # of a run evaluated by now
    assert {file.path for file in files} | {"manifest.json"} == {path.name for path in bundle.iterdir()}
    for file in files:
        content = (bundle / file.path).read_bytes()
        assert (file.size_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_manifest_tells_kind_shapes_and_origin(exported: Bundles, trained: Bundles, family: str) -> None:
    manifest, run = manifest_of(exported(family)), TrainedModel.load(trained(family))
    vae = family != "mlp_gan"
    assert manifest.format_version == 1
    assert manifest.name == family
    assert manifest.kind == (bundle_pb2.MODEL_KIND_VAE if vae else bundle_pb2.MODEL_KIND_GAN)
    assert manifest.likelihood == (bundle_pb2.LIKELIHOOD_BERNOULLI if vae else bundle_pb2.LIKELIHOOD_UNSPECIFIED)
    assert (manifest.latent.dim, manifest.latent.prior) == (run.model.latent_dim, bundle_pb2.PRIOR_STANDARD_NORMAL)
    image = manifest.image
    assert (image.channels, image.height, image.width, image.min_value, image.max_value) == (1, 8, 8, 0.0, 1.0)
    assert image.reading == READING
    provenance = manifest.provenance
    assert (provenance.family, provenance.dataset, provenance.training_steps) == (family, "digits", 15)
    assert provenance.dataset_sha256 == run.dataset(None).sha256
    assert provenance.checkpoint_sha256 == hashlib.sha256(run.folder.chosen().read_bytes()).hexdigest()
    assert provenance.software["torch"] == torch.__version__
    assert provenance.created_at.seconds > 1_700_000_000
    config = json.loads(provenance.config_json)
    assert config["model"]["family"] == family
    assert "root" not in config["data"]


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_have_the_promised_tensors_and_a_batch_that_varies(exported: Bundles, family: str) -> None:
    bundle = exported(family)
    f32, u8 = tensor_pb2.DTYPE_FLOAT32, tensor_pb2.DTYPE_UINT8
    image, manifest = (1, 8, 8), manifest_of(exported(family))
    latent = (manifest.latent.dim,)
    logits = [] if family == "mlp_gan" else [("logits", f32, image)]
    expected = {
        "encoder": ([("image", f32, image)], [("mean", f32, latent), ("log_variance", f32, latent)]),
        "decoder": ([("latent", f32, latent)], [("image", f32, image), ("image_uint8", u8, image), *logits]),
    }
    assert {role_of(graph) for graph in manifest.graphs} == ({"decoder"} if family == "mlp_gan" else set(expected))
    for graph in manifest.graphs:
        inputs, outputs = expected[role_of(graph)]
        assert [(spec.name, spec.dtype, tuple(spec.shape)) for spec in graph.inputs] == inputs
        assert [(spec.name, spec.dtype, tuple(spec.shape)) for spec in graph.outputs] == outputs
        assert graph.opset in range(18, 21)
        assert 0 <= graph.parity_max_abs_error <= 1e-5
        run = session(bundle / graph.file.path)
        for value, spec in zip((*run.get_inputs(), *run.get_outputs()), (*graph.inputs, *graph.outputs), strict=True):
            assert value.name == spec.name
            assert value.shape == ["batch", *spec.shape]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [1, 3, 5, 13, 100])
def test_onnxruntime_agrees_with_torch_at_odd_batches(
    exported: Bundles, trained: Bundles, family: str, batch: int
) -> None:
    bundle, run = exported(family), TrainedModel.load(trained(family))
    latents = run.latents(batch, seed=99)
    outputs = session(bundle / "decoder.onnx").run(None, {"latent": latents.numpy()})
    np.testing.assert_allclose(outputs[0], run.model.decode(latents).numpy(), rtol=0, atol=1e-5)
    assert outputs[0].min() >= 0
    assert outputs[0].max() <= 1
    # np.rint rounds half to even, as the graph must.
    np.testing.assert_array_equal(outputs[1], np.rint(np.float32(255) * outputs[0]).astype(np.uint8))
    if family != "mlp_gan":
        np.testing.assert_allclose(1 / (1 + np.exp(-outputs[2].astype(np.float64))), outputs[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_golden_rows_are_reproduced_and_come_from_real_validation_images(
    exported: Bundles, trained: Bundles, family: str
) -> None:
    bundle, run = exported(family), TrainedModel.load(trained(family))
    golden = load_file(bundle / "golden.safetensors")
    for graph in manifest_of(bundle).graphs:
        role = role_of(graph)
        rows = golden[f"{role}.{graph.inputs[0].name}"]
        assert len(rows) == 8
        outputs = session(bundle / graph.file.path).run(None, {graph.inputs[0].name: rows})
        for spec, output in zip(graph.outputs, outputs, strict=True):
            expected = golden.pop(f"{role}.{spec.name}") if spec.name != graph.inputs[0].name else rows
            assert (output.dtype, output.shape) == (expected.dtype, expected.shape)
            tolerance = 1 if output.dtype == np.uint8 else 1e-5
            assert np.abs(output.astype(np.float64) - expected.astype(np.float64)).max() <= tolerance
        del golden[f"{role}.{graph.inputs[0].name}"]
        if role == "encoder":
            np.testing.assert_array_equal(rows, run.dataset(None).validation.images[:8].astype(np.float32) / 255)
    assert not golden


def test_graphs_hold_no_noise_and_stand_alone(exported: Bundles) -> None:
    for family in FAMILIES:
        graphs = sorted(exported(family).glob("*.onnx"))
        assert graphs[0].name == "decoder.onnx"
        for path in graphs:
            model = onnx.load(path, load_external_data=False)
            assert not [node for node in model.graph.node if node.op_type.startswith("Random")]
            assert not [tensor for tensor in model.graph.initializer if tensor.external_data]


def test_the_averaged_weights_are_exported_not_the_latest(exported: Bundles, trained: Bundles) -> None:
    run = TrainedModel.load(trained("mlp_gan"))
    latest = run.checkpoint.model["generator.0.weight"]
    average = run.checkpoint.average["module.generator.0.weight"]
    assert not torch.equal(latest, average)
    assert torch.equal(run.model.state_dict()["generator.0.weight"], average)
    assert torch.equal(TrainedModel.load(trained("mlp_gan")).sample(2, 0), run.sample(2, 0))


def test_pictures_and_card_are_readable(exported: Bundles) -> None:
    bundle = exported("conv_vae")
    with Image.open(bundle / "samples.png") as picture:
        picture.load()
        assert picture.mode == "L"
    card = (bundle / "CARD.md").read_text()
    for fact in (
        "variational autoencoder",
        "conv_vae",
        "digits",
        "8x8 grey",
        "negative_elbo_nats",
        "![samples](samples.png)",
    ):
        assert fact in card


def test_versions_count_up_and_a_published_one_never_changes(trained: Bundles, tmp_path: Path, capsys: Capture) -> None:
    argv = [str(trained("mlp_gan")), "--repository", str(tmp_path), "--name", "digits-plane", "--license", "CC0-1.0"]
    capsys.readouterr()
    assert commands.export(argv) == 0
    assert commands.export([*argv, "--version", "7"]) == 0
    assert commands.export(argv) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "digits-plane" / version) for version in ("1", "7", "8")]
    before = (tmp_path / "digits-plane" / "7" / "manifest.json").read_bytes()
    assert commands.export([*argv, "--version", "7"]) == 1
    said = f"{tmp_path / 'digits-plane' / '7'} exists already, and a published version never changes; choose another"
    assert capsys.readouterr().err == f"latentserve-export: error: {said} --version\n"
    assert (tmp_path / "digits-plane" / "7" / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "digits-plane").iterdir()) == ["1", "7", "8"]
    manifest = manifest_of(tmp_path / "digits-plane" / "7")
    assert (manifest.name, manifest.license) == ("digits-plane", "CC0-1.0")


def test_a_repository_that_cannot_be_written_is_one_line(trained: Bundles, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("in the way")
    assert commands.export([str(trained("mlp_gan")), "--repository", str(tmp_path / "file")]) == 1
    said = f"{tmp_path / 'file' / 'mlp_gan'}: cannot be written: Not a directory"
    assert capsys.readouterr().err == f"latentserve-export: error: {said}\n"


@pytest.mark.parametrize(
    ("run", "options", "code", "field"),
    [
        ("nothing", [], 1, "{place}"),
        ("mlp_gan", ["--name", "../escape"], 2, "--name"),
        ("mlp_gan", ["--version", "0"], 2, "--version"),
        ("mlp_gan", ["--data-root", "elsewhere"], 1, "data.root"),
    ],
)
def test_an_export_that_cannot_begin_leaves_no_folder(
    trained: Bundles, tmp_path: Path, capsys: Capture, run: str, options: list[str], code: int, field: str
) -> None:
    place = tmp_path if run == "nothing" else trained(run)
    assert commands.export([str(place), "--repository", str(tmp_path / "new" / "models"), *options]) == code
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"latentserve-export: error: {field.format(place=place)} ")
    assert list(tmp_path.iterdir()) == []


def test_an_export_to_a_full_disk_leaves_no_folder(trained: Bundles, tmp_path: Path) -> None:
    repository = tmp_path / "new" / "models"
    failed = run_within(1000, ["latentserve-export", str(trained("mlp_gan")), "--repository", str(repository)])
    assert failed.returncode == 1
    place = repository / "mlp_gan" / "1"
    assert failed.stderr == f"latentserve-export: error: {place}: cannot be published: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(ExportError):
        stage_and_fail(tmp_path / "models" / "name" / "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["models"]


def stage_beside_another(repository: Path) -> None:
    with staging(repository / "name" / "1"):
        (repository / "other").mkdir()
        raise ExportError("a check failed")


def test_a_folder_that_another_uses_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        stage_beside_another(tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").rglob("*")] == ["other"]


def stage_and_fail(place: Path) -> None:
    with staging(place) as folder:
        (folder / "decoder.onnx").write_bytes(b"half")
        assert [path.name[0] for path in place.parent.iterdir()] == ["."]
        raise ExportError("a check failed")


def test_nothing_is_left_of_a_bundle_that_failed(tmp_path: Path) -> None:
    place = tmp_path / "model" / "1"
    with pytest.raises(ExportError):
        stage_and_fail(place)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_seen_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "model" / "1"
    with staging(place) as folder:
        (folder / "manifest.json").write_text("{}")
        assert not place.exists()
    assert [path.name for path in place.parent.iterdir()] == ["1"]
    assert (place / "manifest.json").read_text() == "{}"


def stage_too_late(place: Path) -> None:
    with staging(place) as folder:
        (folder / "manifest.json").write_text("late")
        place.mkdir()
        (place / "manifest.json").write_text("first")


def test_a_version_that_appears_during_the_export_is_not_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "model" / "1"
    with pytest.raises(ExportError, match=f"^{re.escape(str(place))} "):
        stage_too_late(place)
    assert (place / "manifest.json").read_text() == "first"
    assert [path.name for path in place.parent.iterdir()] == ["1"]


def test_the_same_checkpoint_gives_the_same_bytes(
    exported: Bundles, trained: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process, too, so that nothing hangs on the order in which this one hashes or counts."""
    first = exported("conv_vae")
    argv = [str(trained("conv_vae")), "--repository", str(tmp_path)]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    subprocess.run([BIN / "latentserve-export", *argv], env=os.environ, check=True, capture_output=True)
    assert commands.export(argv) == 0
    second, third = (tmp_path / "conv_vae" / version for version in ("1", "2"))
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second, third)]
    assert contents[1] == contents[2]
    assert manifest_of(second).provenance.created_at.seconds == 1_700_000_000
    for content in contents:
        told = content.pop("manifest.json").decode().splitlines()
        content["manifest but created_at"] = "\n".join(line for line in told if "created_at" not in line).encode()
    assert contents[0] == contents[1]


def test_a_source_date_that_is_none_is_one_line(
    trained: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "-5")
    trained("mlp_gan")
    capsys.readouterr()
    assert commands.export([str(trained("mlp_gan")), "--repository", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "latentserve-export: error: SOURCE_DATE_EPOCH is '-5'; it must be a number of seconds since 1970\n"
    )
    assert list(tmp_path.rglob("*.onnx")) == []


@pytest.fixture(scope="module")
def evaluated(trained: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run that has been evaluated; not to be changed."""
    run = tmp_path_factory.mktemp("evaluated") / "mlp_vae"
    shutil.copytree(trained("mlp_vae"), run)
    assert commands.evaluate([str(run), "--quick"]) == 0
    return run


def test_the_evaluation_goes_into_the_bundle(evaluated: Path, tmp_path: Path) -> None:
    assert commands.export([str(evaluated), "--repository", str(tmp_path)]) == 0
    bundle = tmp_path / "mlp_vae" / "1"
    manifest = manifest_of(bundle)
    report = json.loads((evaluated / "report.json").read_text())
    assert dict(manifest.metrics) == {f"test.{name}": value for name, value in report["metrics"].items()}
    card = (bundle / "CARD.md").read_text()
    for section in report["sections"]:
        assert f"### {section['title']}\n\n{section['protocol']}" in card
        for name, one in section["measurements"].items():
            seed = "" if one["seed"] is None else one["seed"]
            assert re.search(
                rf"^\| {name} \| \S.* \| {one['unit']} \| {one['count']:,} \| {seed} \|$", card, re.MULTILINE
            )
    pictures = {name: digest for name, digest in report["files"].items() if name.endswith(".png")}
    carried = {file.path: file.sha256 for file in manifest.files if file.path.endswith(".png")}
    assert set(carried) == {"samples.png", "mixture_samples.png", "latent_plane.png", "curves.png", "kl_by_latent.png"}
    for name, digest in pictures.items():
        assert carried.get(name, digest) == digest
        assert (f"]({name})" in card) == (name in carried)
        assert (f"| {name} | `{digest}` |" in card) == (name not in carried)
        assert (bundle / name).exists() == (name in carried)
    assert "or a fitted mixture (Gaussians: 10)" in card
    served = read_bundle(bundle)
    fitted, shipped = (
        load_file(evaluated / "mixture.safetensors"),
        load_file(bundle / manifest.latent.mixture.file.path),
    )
    assert manifest.latent.mixture.components == len(fitted["weights"])
    assert {name: shipped[name].tolist() for name in shipped} == {name: fitted[name].tolist() for name in fitted}
    calibration = json.loads((evaluated / "calibration.json").read_text())
    assert list(manifest.calibration.negative_elbo_quantiles) == calibration["negative_elbo_quantiles"]
    assert served.manifest.calibration.images == calibration["images"] > 0
    for name in ("latent_means", "latent_variances"):
        assert list(getattr(manifest.calibration, name)) == pytest.approx(calibration[name], rel=1e-6)
        assert len(calibration[name]) == manifest.latent.dim


def test_an_evaluation_of_other_weights_stays_out(evaluated: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, "checkpoint_sha256": "0" * 64}))
    assert commands.export([str(run), "--repository", str(tmp_path)]) == 0
    manifest = manifest_of(tmp_path / "mlp_vae" / "1")
    assert all(name.startswith("validation.") for name in manifest.metrics)
    assert not manifest.latent.HasField("mixture")
    assert not manifest.HasField("calibration")


def test_a_mixture_that_the_evaluation_did_not_write_is_refused(
    evaluated: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    (run / "mixture.safetensors").write_bytes((run / "mixture.safetensors").read_bytes() + b"\0")
    assert commands.export([str(run), "--repository", str(tmp_path / "models")]) == 1
    missing = (
        f"{run / 'mixture.safetensors'} is missing or not what the evaluation wrote; run latentserve-evaluate again"
    )
    assert capsys.readouterr().err == f"latentserve-export: error: {missing}\n"
    assert not list(tmp_path.rglob("*.onnx"))
