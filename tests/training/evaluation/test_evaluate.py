"""Evaluation: the right images, the right weights, numbers that can be recomputed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training.small_runs import JUDGED, arguments

from latentserve_training import commands
from latentserve_training.data import Split
from latentserve_training.evaluation.bound import importance_weighted_nll
from latentserve_training.evaluation.calibration import Calibration
from latentserve_training.evaluation.classifier import Classifier
from latentserve_training.evaluation.config import QUICK, EvaluationConfig
from latentserve_training.evaluation.evaluate import evaluate as evaluate_run
from latentserve_training.evaluation.extractor import WEIGHTS
from latentserve_training.evaluation.gallery import latent_plane
from latentserve_training.evaluation.measurements import subset
from latentserve_training.evaluation.mixture import Mixture
from latentserve_training.evaluation.report import Report
from latentserve_training.image_grid import grid, to_uint8
from latentserve_training.models import Vae
from latentserve_training.models.losses import bernoulli_nll, gaussian_kl
from latentserve_training.models.random_draws import binarize, reparameterize
from latentserve_training.run.trained_model import TrainedModel

Runs = Callable[[str], Path]
GAN_FILES = {"samples.png", "interpolations.png", "neighbours.png", "curves.png"}
VAE_FILES = GAN_FILES | {
    "mixture.safetensors", "calibration.json", "mixture_samples.png", "reconstructions.png", "traversals.png",
    "kl_by_latent.png",
}  # fmt: skip
FILES = {"mlp_gan": GAN_FILES, "mlp_vae": VAE_FILES | {"latent_plane.png"}}


def test_a_vae_s_report_is_the_elbo_of_its_averaged_best_weights_on_test_images(
    trained: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("conv_vae")
    capsys.readouterr()
    assert commands.evaluate([str(run), "--quick"]) == 0
    report = json.loads((run / "report.json").read_text())
    model = TrainedModel.load(run)
    assert isinstance(model.model, Vae)
    generator = torch.Generator().manual_seed(0)
    binary = binarize(torch.from_numpy(model.dataset(None).test.images).float() / 255, generator)
    posterior = model.model.encode(binary)
    logits = model.model.decode_logits(reparameterize(*posterior, generator=generator))
    metrics = report["metrics"]
    assert metrics["reconstruction_nats"] == pytest.approx(bernoulli_nll(logits, binary).mean().item(), rel=1e-5)
    assert metrics["kl_nats"] == pytest.approx(gaussian_kl(*posterior).sum(1).mean().item(), rel=1e-5)
    assert metrics["negative_elbo_nats"] == pytest.approx(metrics["reconstruction_nats"] + metrics["kl_nats"])
    rows = subset(100, 180, seed=0)
    nll = importance_weighted_nll(model.model, binary[rows], None, 50, torch.Generator().manual_seed(0))
    elbos = bernoulli_nll(logits, binary) + gaussian_kl(*posterior).sum(1)
    gap = elbos[rows] - nll
    assert metrics["importance_gap_nats"] == pytest.approx(gap.mean().item(), rel=1e-4)
    assert metrics["importance_weighted_nll_nats"] == pytest.approx((elbos.mean() - gap.mean()).item(), rel=1e-5)
    assert report["checkpoint_sha256"] == model.checkpoint_sha256
    page = capsys.readouterr().out
    assert page == (run / "report.md").read_text()
    assert re.search(r"\| negative_elbo_nats \| [\d.]+ ± [\d.]+ \| nats/image \| 180 \| 0 \|", page)


@pytest.mark.parametrize("family", ["mlp_vae", "mlp_gan"])
def test_every_number_has_its_count_and_every_file_its_digest(trained: Runs, family: str) -> None:
    run = trained(family)
    report = evaluate_run(run, config=JUDGED)
    assert Report.load(run / "report.json") == report
    page = (run / "report.md").read_text()
    for section in report.sections:
        assert section.protocol in page
        for name, one in section.measurements.items():
            assert one.count > 0
            assert f"| {name} | " in page
            assert f" | {one.unit} | {one.count:,} | " in page
    assert report.extractor_sha256 is None
    assert "the images are 1x8x8, and the pinned feature extractor takes 1x28x28 only" in page
    assert report.files.keys() == FILES[family]
    for name, digest in report.files.items():
        assert hashlib.sha256((run / name).read_bytes()).hexdigest() == digest
        assert not name.endswith(".png") or f"({name})" in page
    assert not [path for path in run.iterdir() if path.name.startswith(".")], "nothing staged is left"


def test_the_mixture_and_the_calibration_are_what_an_export_needs(trained: Runs) -> None:
    run = trained("mlp_vae")
    evaluate_run(run, config=JUDGED)
    mixture = Mixture.load(run / "mixture.safetensors")
    assert mixture.factors.shape == (10, 2, 2)
    calibration = Calibration.load(run / "calibration.json")
    judged = TrainedModel.load(run)
    assert isinstance(judged.model, Vae)
    grey = torch.from_numpy(judged.dataset(None).test.images).float() / 255
    mean, log_variance = judged.model.encode(grey)
    scores = bernoulli_nll(judged.model.decode_logits(mean), grey) + gaussian_kl(mean, log_variance).sum(1)
    quantiles = calibration.negative_elbo_quantiles
    assert (quantiles[0], quantiles[-1]) == (pytest.approx(scores.min().item()), pytest.approx(scores.max().item()))
    assert quantiles[50] == pytest.approx(scores.median().item(), rel=0.02)
    assert calibration.images == 180
    assert calibration.latent_means == pytest.approx(mean.mean(0).tolist(), abs=1e-5)
    assert calibration.latent_variances == pytest.approx(mean.var(0, correction=0).tolist(), rel=1e-4)


def test_digits_as_large_as_mnist_s_are_measured_in_the_pinned_features(tmp_path: Path) -> None:
    assert commands.train(arguments("mlp_vae", tmp_path / "run", "--data.size", "28")) == 0
    report = evaluate_run(tmp_path / "run", config=replace(QUICK, classifier_steps=1))
    assert report.extractor_sha256 == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    metrics = report.metrics
    for name in ("samples", "mixture", "reconstructions"):
        assert metrics["floor_fid"] < metrics[f"{name}_fid"], name
        assert metrics["floor_kid"] < metrics[f"{name}_kid"], name
        assert 0 <= metrics[f"{name}_precision"] <= 1
    assert metrics["floor_recall"] > 0.8
    (section,) = (section for section in report.sections if section.title == "Fidelity")
    beside = section.measurements["samples_fid_at_floor_n"]
    assert beside.count == section.measurements["floor_fid"].count == 180 < section.measurements["samples_fid"].count
    assert beside.value == pytest.approx(metrics["samples_fid"], rel=0.1)
    assert beside.value != metrics["samples_fid"]
    assert "reconstructions_fid_at_floor_n" not in metrics, "they are as many as the floor's already"
    page = report.markdown()
    assert "1,437 training images, in the 84 features of the pinned LeNet" in page
    assert report.extractor_sha256 in page


def test_the_same_run_is_judged_the_same_twice(trained: Runs) -> None:
    config = EvaluationConfig(samples=200, nll_draws=5, nll_images=10, classifier_steps=50, seed=3)
    first = evaluate_run(trained("mlp_vae"), config=config)
    assert evaluate_run(trained("mlp_vae"), config=config) == first
    assert evaluate_run(trained("mlp_vae"), config=replace(config, seed=4)).metrics != first.metrics


def test_a_conditional_model_is_asked_for_labels(tmp_path: Path) -> None:
    longer = ["--trainer.epochs", "12", "--trainer.batch_size", "64", "--trainer.ema_decay", "0.95"]
    longer += ["--model.wide", "16", "--model.learning_rate", "0.003", "--model.objective.free_bits", "0.25"]
    assert commands.train(arguments("cvae", tmp_path / "run", *longer)) == 0
    config = replace(QUICK, classifier_score=True)
    report = evaluate_run(tmp_path / "run", config=config)
    metrics = report.metrics
    (likelihood,) = (section for section in report.sections if section.title == "Likelihood")
    assert likelihood.protocol.startswith("Upper bounds on -log p(x), given the label, of test images")
    (labels,) = (section for section in report.sections if section.title == "Labels")
    assert labels.measurements["classifier_accuracy_score"].count == 180, "of real test images"
    assert "trained on 1,437 samples alone, beside the same network trained on the 1,437 real" in labels.protocol
    assert metrics["asked_label_accuracy"] > 0.5, "far above the 0.1 of a model that ignores the label"
    assert 0.2 < metrics["classifier_accuracy_score"] <= 1
    assert metrics["classifier_accuracy_score_real"] == metrics["classifier_test_accuracy"]
    assert metrics["importance_gap_nats"] > 0


def test_what_is_not_binary_is_explained_as_it_is(tmp_path: Path) -> None:
    argv = arguments("mlp_vae", tmp_path / "run", "--model.likelihood", "discretized_logistic")
    assert commands.train(argv) == 0
    report = evaluate_run(tmp_path / "run", config=JUDGED)
    (section,) = (section for section in report.sections if section.title == "Likelihood")
    assert "as they are; a probability of their 256 levels" in section.protocol
    assert len(section.series["kl_nats_by_latent"]) == 2
    assert sum(section.series["kl_nats_by_latent"]) == pytest.approx(report.metrics["kl_nats"], rel=1e-5)


def test_more_latents_than_a_mixture_is_fitted_to_have_none_and_the_report_says_so(tmp_path: Path) -> None:
    assert commands.train(arguments("mlp_vae", tmp_path / "run", "--model.latent_dim", "2049")) == 0
    report = evaluate_run(tmp_path / "run", config=replace(JUDGED, nll_draws=0))
    said = "No mixture prior was fitted: there are 2,049 latents, and it is fitted to 2,048 at most."
    assert report.remarks == [said]
    assert said in (tmp_path / "run" / "report.md").read_text().splitlines()
    assert report.files.keys() == VAE_FILES - {"mixture.safetensors", "mixture_samples.png"}
    assert Report.load(tmp_path / "run" / "report.json") == report


def test_no_draws_leave_the_importance_weighted_bound_out(trained: Runs) -> None:
    metrics = evaluate_run(trained("mlp_vae"), config=replace(JUDGED, nll_draws=0)).metrics
    assert "negative_elbo_nats" in metrics
    assert not [name for name in metrics if "importance" in name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_run_as_it_was(trained: Runs, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained("conv_vae"), run)
    evaluate_run(run, config=JUDGED)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    command = [
        sys.executable,
        "-c",
        "import sys; from latentserve_training.commands import evaluate; sys.exit(evaluate())",
    ]
    process = subprocess.Popen(
        [*command, str(run), "--nll-draws", "1000000", "--untuned"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while process.poll() is None and not any(run.glob(".evaluation-*/traversals.png")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert err == b"latentserve-evaluate: stopped by a signal before it was done; run the same command again\n"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_checkpoint_with_the_best_validation_is_judged(trained: Runs) -> None:
    run = trained("conv_vae")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min(records, key=lambda record: record["validation"]["negative_elbo_nats"])
    assert TrainedModel.load(run).checkpoint.progress.epoch == best["epoch"]


def test_a_vae_s_pictures(trained: Runs) -> None:
    run = trained("mlp_vae")
    evaluate_run(run, config=JUDGED)
    for name, columns, images, gap in (
        ("samples", 8, 64, 2),
        ("mixture_samples", 8, 64, 2),
        ("reconstructions", 8, 64, 2),
        ("interpolations", 10, 80, 2),
        ("traversals", 11, 22, 2),
        ("neighbours", 8, 64, 2),
        ("latent_plane", 15, 225, 0),
    ):
        with Image.open(run / f"{name}.png") as picture:
            rows = images // columns
            assert picture.size == (2 * (columns * (8 + gap) - gap), 2 * (rows * (8 + gap) - gap)), name
    with Image.open(run / "reconstructions.png") as picture:
        first = np.asarray(picture)[::2, ::2][:8, :8]
    np.testing.assert_array_equal(first, TrainedModel.load(run).dataset(None).test.images[0, 0])


def test_a_gan_s_samples_are_counted_by_class(trained: Runs) -> None:
    metrics = evaluate_run(trained("mlp_gan"), config=QUICK).metrics
    shares = [metrics[f"samples_class_share_{number}"] for number in range(10)]
    assert sum(shares) == pytest.approx(1)
    assert (metrics["samples_class_share_min"], metrics["samples_class_share_max"]) == (min(shares), max(shares))
    assert 0 <= metrics["samples_confident_share"] <= 1
    assert metrics["classifier_test_accuracy"] > 0.9
    assert not (trained("mlp_gan") / "reconstructions.png").exists()


def test_a_gan_on_data_without_classes_is_judged_by_its_variety_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
    data = ("--data.name", "folder", "--data.root", str(tmp_path / "images"), "--trainer.batch_size", "8")
    assert commands.train(arguments("mlp_gan", tmp_path / "run", *data)) == 0
    report = evaluate_run(tmp_path / "run", config=JUDGED)
    assert [section.title for section in report.sections if section.measurements] == ["Variety"]
    (tmp_path / "images").rename(tmp_path / "moved")
    assert evaluate_run(tmp_path / "run", tmp_path / "moved", JUDGED) == report


def test_a_run_before_its_first_epoch_has_nothing_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.train(arguments("mlp_vae", tmp_path / "run", "--model.learning_rate", "1e30")) == 1
    capsys.readouterr()
    assert commands.evaluate([str(tmp_path / "run")]) == 1
    said = "has not finished its first epoch; train on before evaluating or exporting"
    assert capsys.readouterr().err == f"latentserve-evaluate: error: {tmp_path / 'run'} {said}\n"


def test_the_classifier_learns_what_it_is_shown_and_leaves_the_global_noise_alone() -> None:
    images = np.zeros((200, 1, 8, 8), np.uint8)
    labels = np.arange(200) % 2
    images[labels == 1, :, :4] = 255
    before = torch.get_rng_state()
    classifier = Classifier.fit(Split(images, labels), seed=0, fewest_steps=100)
    assert torch.equal(before, torch.get_rng_state())
    assert classifier.accuracy(Split(images, labels)) == 1.0
    assert classifier.accuracy(Split(images, 1 - labels)) == 0.0
    probabilities = classifier.probabilities(torch.from_numpy(images[:3]).float() / 255)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))


def test_a_grid_puts_every_image_in_its_place() -> None:
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(2, 2).repeat(3, 3) * 50
    sheet = np.asarray(grid(images, columns=2, scale=1, gap=1))
    assert sheet.shape == (3 * 3 - 1, 2 * 4 - 1)
    for number in range(5):
        row, column = divmod(number, 2)
        np.testing.assert_array_equal(sheet[3 * row : 3 * row + 2, 4 * column : 4 * column + 3], images[number, 0])
    assert grid(images.repeat(3, 1), columns=2).mode == "RGB"


def test_pixels_are_rounded_half_to_even_and_kept_in_range() -> None:
    images = torch.tensor([0.0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.0, 1.1, -0.1], dtype=torch.float64)
    assert to_uint8(images.float()).tolist() == [0, 0, 2, 2, 255, 255, 0]


def test_the_latent_plane_is_even_in_probability() -> None:
    plane = latent_plane(5).reshape(5, 5, 2)
    probabilities = torch.special.ndtr(plane)
    expected = (torch.arange(5) + 0.5) / 5
    for row in range(5):
        torch.testing.assert_close(probabilities[row, :, 0], expected)
        torch.testing.assert_close(probabilities[:, row, 1], expected.flip(0))
