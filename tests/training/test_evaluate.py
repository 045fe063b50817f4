"""Evaluation: the right images, the right weights, numbers that can be recomputed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentserve_training import evaluate, train
from latentserve_training.classifier import Classifier
from latentserve_training.data import Split
from latentserve_training.losses import bernoulli_nll, binarize, gaussian_kl, reparameterize
from latentserve_training.models import Vae
from latentserve_training.pictures import grid, latent_plane, to_uint8
from latentserve_training.trained import Trained

from .conftest import arguments

Runs = Callable[[str], Path]


def test_a_vae_s_report_is_the_elbo_of_its_averaged_best_weights_on_test_images(
    trained: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("conv_vae")
    capsys.readouterr()
    assert evaluate.main([str(run)]) == 0
    report = json.loads((run / "report.json").read_text())
    model = Trained.load(run)
    assert isinstance(model.model, Vae)
    generator = torch.Generator().manual_seed(0)
    binary = binarize(torch.from_numpy(model.dataset(None).test.images).float() / 255, generator)
    posterior = model.model.encode(binary)
    logits = model.model.decode_logits(reparameterize(*posterior, generator=generator))
    metrics = report["metrics"]
    assert metrics["reconstruction_nats"] == pytest.approx(bernoulli_nll(logits, binary).mean().item(), rel=1e-5)
    assert metrics["kl_nats"] == pytest.approx(gaussian_kl(*posterior).mean().item(), rel=1e-5)
    assert metrics["negative_elbo_nats"] == pytest.approx(metrics["reconstruction_nats"] + metrics["kl_nats"])
    assert report["checkpoint_sha256"] == model.checkpoint_sha256
    assert "180 test images" in report["protocol"]
    assert "seed 0" in report["protocol"]
    page = capsys.readouterr().out
    assert page == (run / "report.md").read_text()
    assert f"| negative_elbo_nats | {metrics['negative_elbo_nats']:.4g} |" in page


def test_the_checkpoint_with_the_best_validation_is_judged(trained: Runs) -> None:
    run = trained("conv_vae")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min(records, key=lambda record: record["validation"]["negative_elbo_nats"])
    assert Trained.load(run).checkpoint.progress.epoch == best["epoch"]


def test_a_vae_s_pictures(trained: Runs) -> None:
    run = trained("mlp_vae")
    evaluate.evaluate(run)
    for name, columns, images, gap in (
        ("samples", 8, 64, 2),
        ("reconstructions", 8, 64, 2),
        ("latent_plane", 15, 225, 0),
    ):
        with Image.open(run / f"{name}.png") as picture:
            rows = images // columns
            assert picture.size == (2 * (columns * (8 + gap) - gap), 2 * (rows * (8 + gap) - gap)), name
    with Image.open(run / "reconstructions.png") as picture:
        first = np.asarray(picture)[::2, ::2][:8, :8]
    np.testing.assert_array_equal(first, Trained.load(run).dataset(None).test.images[0, 0])


def test_a_gan_s_samples_are_counted_by_class(trained: Runs) -> None:
    metrics = evaluate.evaluate(trained("mlp_gan")).metrics
    shares = [metrics[f"class_share_{number}"] for number in range(10)]
    assert sum(shares) == pytest.approx(1)
    assert (metrics["class_share_min"], metrics["class_share_max"]) == (min(shares), max(shares))
    assert 0 <= metrics["confident_share"] <= 1
    assert metrics["classifier_test_accuracy"] > 0.9
    assert not (trained("mlp_gan") / "reconstructions.png").exists()


def test_a_gan_on_data_without_classes_is_judged_by_diversity_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
    data = ("--data.name", "folder", "--data.root", str(tmp_path / "images"), "--trainer.batch_size", "8")
    assert train.main(arguments("mlp_gan", tmp_path / "run", *data)) == 0
    report = evaluate.evaluate(tmp_path / "run")
    assert report.metrics.keys() == {"diversity"}
    assert "no classes" in report.protocol
    (tmp_path / "images").rename(tmp_path / "moved")
    assert evaluate.evaluate(tmp_path / "run", tmp_path / "moved") == report


def test_a_run_before_its_first_epoch_has_nothing_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(arguments("mlp_vae", tmp_path / "run", "--model.learning_rate", "1e30")) == 1
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "run")]) == 1
    assert "has not finished its first epoch" in capsys.readouterr().err


def test_the_classifier_learns_what_it_is_shown_and_leaves_the_global_noise_alone() -> None:
    images = np.zeros((200, 1, 8, 8), np.uint8)
    labels = np.arange(200) % 2
    images[labels == 1, :, :4] = 255
    before = torch.get_rng_state()
    classifier = Classifier.fit(Split(images, labels), seed=0)
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
