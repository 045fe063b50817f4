"""`latentserve-evaluate`: a run's model judged on images that neither training nor the choice of weights has seen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from latentserve_training import command_line
from latentserve_training.classifier import Classifier
from latentserve_training.data import Dataset
from latentserve_training.models import Vae
from latentserve_training.pictures import grid, latent_plane, to_uint8, write_png
from latentserve_training.report import Report
from latentserve_training.trained import Trained

PROG = "latentserve-evaluate"
SEED = 0
SAMPLES = 10_000
CONFIDENT = 0.9
_PICTURE_IMAGES = 64
_PLANE_SIDE = 15


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate as `argv` says (the process's own arguments when absent); returns the exit code."""
    return command_line.run(lambda: _main(argv), PROG)


def _main(argv: Sequence[str] | None) -> None:
    parser = ArgumentParser(
        prog=PROG,
        description="Judge a run's model on its test images; writes report.json, report.md and pictures into the run.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder that latentserve-train made.")
    parser.add_argument("--data-root", type=Path | None, help="Folder of the data, where it has moved since training.")
    values = parser.parse_args(argv)
    sys.stdout.write(evaluate(values.run, values.data_root).markdown())


def evaluate(run: Path, data_root: Path | None = None) -> Report:
    """Judge the run's chosen checkpoint, and write the report and pictures into its folder.

    Raises:
        RunError: the run cannot be used.
        DataError: its data cannot be read.
    """
    trained = Trained.load(run)
    dataset = trained.dataset(data_root)
    metrics, protocol = _judge_vae(trained, dataset) if isinstance(trained.model, Vae) else _judge_gan(trained, dataset)
    report = Report(
        family=trained.config.model.family,
        dataset=trained.config.data.name,
        epoch=trained.checkpoint.progress.epoch,
        step=trained.checkpoint.progress.step,
        checkpoint_sha256=trained.checkpoint_sha256,
        protocol=protocol,
        metrics=metrics,
    )
    report.save(trained.folder.report)
    _draw(trained, dataset)
    return report


def _judge_vae(trained: Trained, dataset: Dataset) -> tuple[dict[str, float], str]:
    images = torch.from_numpy(dataset.test.images)
    metrics = trained.model.validate(images, torch.Generator().manual_seed(SEED))
    return metrics, (
        f"Means over {len(images):,} test images, dynamically binarised (x ~ Bernoulli(pixel / 255)) once, with one "
        f"draw of z an image, both from seed {SEED}; nats an image. A unit is active when the variance of its "
        "posterior mean over the images is above 0.01."
    )


def _judge_gan(trained: Trained, dataset: Dataset) -> tuple[dict[str, float], str]:
    samples = torch.cat(
        [trained.model.decode(latents) for latents in torch.split(trained.latents(SAMPLES, SEED), 1000)]
    )
    metrics = trained.model.validate(torch.from_numpy(dataset.test.images), torch.Generator().manual_seed(SEED))
    protocol = (
        f"Seed {SEED}. Diversity: the pixel variance of samples as a fraction of that of the {len(dataset.test):,} "
        "test images."
    )
    if dataset.train.labels is None:
        return metrics, f"{protocol} The data has no classes to count."
    classifier = Classifier.fit(dataset.train, SEED)
    metrics |= {"classifier_test_accuracy": classifier.accuracy(dataset.test)} | _class_counts(classifier, samples)
    return metrics, (
        f"{protocol} Classes of {SAMPLES:,} samples are told by a small convolutional network trained on the "
        f"{len(dataset.train):,} training images (seed {SEED}); a sample is confident when its class has a probability "
        f"above {CONFIDENT}."
    )


def _class_counts(classifier: Classifier, samples: Tensor) -> dict[str, float]:
    probabilities = classifier.probabilities(samples)
    confidence, guesses = probabilities.max(dim=1)
    shares = np.bincount(guesses.numpy(), minlength=probabilities.shape[1]) / len(samples)
    return {
        "confident_share": (confidence > CONFIDENT).double().mean().item(),
        "class_share_min": float(shares.min()),
        "class_share_max": float(shares.max()),
        **{f"class_share_{number}": float(share) for number, share in enumerate(shares)},
    }


def _draw(trained: Trained, dataset: Dataset) -> None:
    """samples.png; for a VAE reconstructions.png; for two latents latent_plane.png."""
    folder, model = trained.folder.path, trained.model
    write_png(grid(to_uint8(trained.sample(_PICTURE_IMAGES, SEED)), columns=8), folder / "samples.png")
    if not isinstance(model, Vae):
        return
    originals = torch.from_numpy(dataset.test.images[: _PICTURE_IMAGES // 2]).float() / 255
    pairs = torch.stack((originals, model.decode(model.encode(originals).mean)), dim=1)
    write_png(grid(to_uint8(pairs.flatten(0, 1)), columns=8), folder / "reconstructions.png")
    if model.latent_dim == 2:
        plane = model.decode(latent_plane(_PLANE_SIDE))
        write_png(grid(to_uint8(plane), columns=_PLANE_SIDE, gap=0), folder / "latent_plane.png")
