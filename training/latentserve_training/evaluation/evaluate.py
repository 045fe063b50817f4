"""The command latentserve-evaluate: a trained model judged, down to its report."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from latentserve_training.command_line.output import say
from latentserve_training.data import Dataset, Split
from latentserve_training.errors import ConfigError
from latentserve_training.evaluation import gallery, measurements
from latentserve_training.evaluation.bound import elbo
from latentserve_training.evaluation.calibration import Calibration
from latentserve_training.evaluation.classifier import Classifier
from latentserve_training.evaluation.config import EvaluationConfig, EvaluationRequest
from latentserve_training.evaluation.curves import draw_curves, draw_kl_by_latent
from latentserve_training.evaluation.decoding import decode
from latentserve_training.evaluation.extractor import IMAGE_SHAPE, Extractor
from latentserve_training.evaluation.extractor.inception import Inception
from latentserve_training.evaluation.inception_fid import inception_fid, inception_of
from latentserve_training.evaluation.likelihood import likelihood
from latentserve_training.evaluation.mixture import MOST_DIMENSIONS, Mixture
from latentserve_training.evaluation.report import Report, Section
from latentserve_training.interruption import signals_ignored
from latentserve_training.models import Vae
from latentserve_training.models.random_draws import reparameterize
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.records import read_records
from latentserve_training.run.trained_model import TrainedModel

_MNIST = "mnist"
_AGGREGATE_IMAGES = 50_000
_ENCODED_ROWS = 250


def tell(request: EvaluationRequest, warn: Callable[[str], None]) -> None:
    """Evaluate the run that is asked for and print the report; `warn` hears it if samples have collapsed.

    Raises:
        TrainingError: the run or its data cannot be used.
    """
    report = evaluate(request.run, request.data_root, request.config)
    say(report.markdown())
    if report.collapse:
        warn(f"{request.run} has collapsed: {report.collapse}")


def evaluate(run: Path, data_root: Path | None = None, config: EvaluationConfig | None = None) -> Report:
    """Evaluate the run's chosen checkpoint; writes the report, the pictures and what an export needs into its folder.

    All files appear together at the end, the report last: where there is a report, its files are of the same weights.

    Raises:
        RunError: the run cannot be used.
        DataError: its data cannot be read.
        ConfigError: something is asked for that this family does not have.
    """
    config = config or EvaluationConfig()
    trained = TrainedModel.load(run)
    if config.classifier_score and not trained.model.label_count:
        raise ConfigError(f"--classifier-score is for conditional models; {trained.config.model.family} is none")
    dataset = trained.dataset(data_root)
    inception = inception_of(config, dataset)
    trained.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory(prefix=".evaluation-", dir=run) as name:
        staged = RunFolder(Path(name))
        report = _evaluate(trained, dataset, config, inception, staged)
        report.save(staged.report)
        _publish(staged, trained.folder, report)
    return report


def _evaluate(
    trained: TrainedModel,
    dataset: Dataset,
    config: EvaluationConfig,
    inception: Inception | None,
    staged: RunFolder,
) -> Report:
    extractor = Extractor.read() if dataset.image_shape == IMAGE_SHAPE else None
    model = trained.model
    asked = model.every_label(config.samples)
    samples = decode(model, trained.latents(config.samples, config.seed), asked, "samples")
    gallery.draw_samples(samples, staged.path / "samples.png")
    sets = {"samples": samples}
    found: list[Section] = []
    ends = trained.latents(config.samples, config.seed)
    if isinstance(model, Vae):
        section, ends = _evaluate_vae(model, dataset, config, staged)
        found.append(section)
        sets |= _vae_sets(model, dataset, config, staged)
    gallery.draw_interpolations(model, ends, staged.path / "interpolations.png")
    gallery.draw_neighbours(samples, torch.from_numpy(dataset.train.images), staged.path / "neighbours.png")
    records = read_records(trained.folder.metrics)
    draw_curves(records, staged.path / "curves.png")
    draw_kl_by_latent(records, staged.path / "kl_by_latent.png")
    if inception is None:
        found.append(measurements.fidelity(extractor, dataset, sets, config))
    else:
        found.append(inception_fid(inception, dataset, sets, config))
    if dataset.train.labels is not None:
        classifier, judge = _classifier(extractor, dataset, config)
        found.append(measurements.classes(classifier, judge, dataset.test, sets, config))
        if asked is not None:
            lesson = _labelled_samples(trained, len(dataset.train), config) if config.classifier_score else None
            labelled = Split(samples.numpy(), asked.numpy())
            found.append(measurements.conditioning(classifier, labelled, dataset, config, lesson))
    found.append(measurements.variety(samples, dataset, config))
    return Report(
        family=trained.config.model.family,
        dataset=trained.config.data.name,
        dataset_sha256=trained.checkpoint.origin.dataset_sha256,
        epoch=trained.checkpoint.progress.epoch,
        step=trained.checkpoint.progress.step,
        checkpoint_sha256=trained.checkpoint_sha256,
        extractor_sha256=extractor.sha256 if extractor else None,
        sections=found,
        collapse=trained.collapse(dataset.test, config.seed),
        remarks=[] if "mixture" in sets or not isinstance(model, Vae) else [_no_mixture(model.latent_dim)],
        files={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(staged.path.iterdir())},
    )


def _evaluate_vae(model: Vae, dataset: Dataset, config: EvaluationConfig, staged: RunFolder) -> tuple[Section, Tensor]:
    """The likelihood section on test images, and their posterior means; draws the pictures of the latents."""
    generator = torch.Generator().manual_seed(config.seed)
    pixels = model.likelihood.observe(torch.from_numpy(dataset.test.images).float() / 255, generator)
    labels = model.labels_of(dataset.test.labels)
    terms = elbo(model, pixels, labels, generator)
    gallery.draw_traversals(model, terms, labels, staged.path / "traversals.png")
    if model.latent_dim == 2:
        gallery.draw_plane(model, staged.path / "latent_plane.png")
    return likelihood(model, pixels, labels, terms, config), terms.posterior.mean


def _vae_sets(model: Vae, dataset: Dataset, config: EvaluationConfig, staged: RunFolder) -> dict[str, Tensor]:
    """Samples of the mixture and reconstructions of test images; writes mixture, calibration and pictures."""
    test, labels = torch.from_numpy(dataset.test.images), model.labels_of(dataset.test.labels)
    # As they are served: grey values are encoded and scored as they are, and decoded at the mean.
    served = elbo(model, test.float() / 255, labels, None)
    Calibration.of(served.negative, served.posterior.mean).save(staged.calibration)
    rows = torch.cat(
        (torch.arange(gallery.RECONSTRUCTED), measurements.subset(config.samples, len(test), config.seed))
    ).clamp(max=len(test) - 1)
    asked = None if labels is None else labels[rows]
    decoded = decode(model, served.posterior.mean[rows], asked, "reconstructions")
    gallery.draw_reconstructions(test[rows], decoded, staged.path / "reconstructions.png")
    reconstructions = {"reconstructions": decoded[gallery.RECONSTRUCTED :]}
    if model.latent_dim > MOST_DIMENSIONS:
        return reconstructions
    mixture = _aggregate_posterior(model, dataset, config)
    mixture.save(staged.mixture)
    drawn = torch.from_numpy(mixture.sample(config.samples, config.seed))
    samples = decode(model, drawn, model.every_label(config.samples), "mixture samples")
    gallery.draw_samples(samples, staged.path / "mixture_samples.png")
    return {"mixture": samples, **reconstructions}


def _no_mixture(latents: int) -> str:
    return (
        f"No mixture prior was fitted: there are {latents:,} latents, and it is fitted to {MOST_DIMENSIONS:,} at most."
    )


@torch.no_grad()
def _aggregate_posterior(model: Vae, dataset: Dataset, config: EvaluationConfig) -> Mixture:
    """The mixture that follows z ~ q(z|x), drawn once for each of at most 50,000 training images."""
    generator = torch.Generator().manual_seed(config.seed)
    images, labels = torch.from_numpy(dataset.train.images), model.labels_of(dataset.train.labels)
    draws, means = [], []
    for rows in torch.split(measurements.subset(_AGGREGATE_IMAGES, len(images), config.seed), _ENCODED_ROWS):
        pixels = model.likelihood.observe(images[rows].float() / 255, generator)
        posterior = model.encode(pixels, None if labels is None else labels[rows])
        draws.append(reparameterize(*posterior, generator=generator))
        means.append(posterior.mean)
    return Mixture.fit(torch.cat(draws).numpy(), torch.cat(means).numpy(), config.seed)


def _classifier(extractor: Extractor | None, dataset: Dataset, config: EvaluationConfig) -> tuple[Classifier, str]:
    """The classifier of the data's classes, and its description."""
    if extractor is not None and dataset.name == _MNIST:
        return extractor.classifier, "the pinned feature extractor"
    judge = f"a small convolutional network trained on the {len(dataset.train):,} training images (seed {config.seed})"
    return Classifier.fit(dataset.train, config.seed, config.classifier_steps), judge


def _labelled_samples(trained: TrainedModel, count: int, config: EvaluationConfig) -> Split:
    """`count` images of a conditional model with the labels asked for."""
    asked = trained.model.every_label(count)
    assert asked is not None, "a conditional model has labels"
    images = decode(trained.model, trained.latents(count, config.seed), asked, "samples to learn from")
    return Split(images.numpy(), asked.numpy())


def _publish(staged: RunFolder, folder: RunFolder, report: Report) -> None:
    """Move the staged files into the run, with no report there meanwhile."""
    with signals_ignored():
        folder.report.unlink(missing_ok=True)
        for name in (*report.files, folder.report.with_suffix(".md").name, folder.report.name):
            (staged.path / name).replace(folder.path / name)
