"""The measurements of an evaluation on images alone: fidelity, classes, variety and labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from latentserve_training.data import Dataset, Split
from latentserve_training.evaluation.classifier import Classifier
from latentserve_training.evaluation.config import EvaluationConfig
from latentserve_training.evaluation.extractor import IMAGE_SHAPE, Extractor
from latentserve_training.evaluation.extractor.inception import CHANNELS as INCEPTION_CHANNELS
from latentserve_training.evaluation.fidelity import (
    KERNEL_SUBSET_SIZE,
    KERNEL_SUBSETS,
    MANIFOLD_ROWS,
    NEIGHBOURS,
    Fidelity,
    frechet_distance,
)
from latentserve_training.evaluation.neighbours import Neighbours
from latentserve_training.evaluation.report import Measurement, Section

CONFIDENT = 0.9
_COPY_QUANTILE = 0.01
_NEIGHBOUR_IMAGES = 1000


def subset(count: int, of: int, seed: int) -> Tensor:
    """Indices int64 of `count` rows out of `of`, chosen with `seed`, in random order; all where there are fewer."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(of)[:count])


def fidelity(
    extractor: Extractor | None, dataset: Dataset, sets: dict[str, Tensor], config: EvaluationConfig
) -> Section:
    """Distances of sets of images uint8 [n, channels, height, width], by name, from the training images."""
    title = "Fidelity"
    if extractor is None:
        shape = "x".join(map(str, dataset.image_shape))
        fits = "x".join(map(str, IMAGE_SHAPE))
        why = f"Not measured: the images are {shape}, and the pinned feature extractor takes {fits} only."
        if dataset.image_shape[0] == INCEPTION_CHANNELS:
            why += " FID of colour images is measured in Inception's features where --inception-weights names a file."
        return Section(title=title, protocol=why, measurements={})
    real = extractor.features(torch.from_numpy(dataset.train.images))
    floor = torch.from_numpy(dataset.test.images)[subset(config.samples, len(dataset.test), config.seed)]
    measurements: dict[str, Measurement] = {}
    for name, images in {"floor": floor, **sets}.items():
        features = extractor.features(images)
        found = Fidelity.between(real, features, config.seed)
        for metric, unit in (("fid", "squared features"), ("kid", ""), ("precision", "share"), ("recall", "share")):
            measurements[f"{name}_{metric}"] = Measurement(
                value=getattr(found, metric), unit=unit, count=len(images), seed=config.seed
            )
        if len(images) > len(floor):
            measurements[f"{name}_fid_at_floor_n"] = Measurement(
                value=frechet_distance(real, features[: len(floor)]),
                unit="squared features",
                count=len(floor),
                seed=config.seed,
            )
    return Section(title=title, protocol=_fidelity_protocol(len(real), len(floor)), measurements=measurements)


def _fidelity_protocol(training: int, floor: int) -> str:
    return (
        f"Against the {training:,} training images, in the 84 features of the pinned LeNet: values compare only where "
        f"its digest is the same, and never with distances in Inception's features. Floor: {floor:,} real test images "
        "in the samples' place. FID falls with n: where there are fewer of them than samples, as many samples stand "
        "beside it. A conditional model's samples have each label as often as any other. KID: mean of "
        f"{KERNEL_SUBSETS} subsets of at most {KERNEL_SUBSET_SIZE:,}. Precision and recall: {NEIGHBOURS} neighbours, "
        f"at most {MANIFOLD_ROWS:,} images of each. Images are what is served: a VAE's decoded means, in 8 bits."
    )


def classes(
    classifier: Classifier, judge: str, test: Split, sets: dict[str, Tensor], config: EvaluationConfig
) -> Section:
    """How sets of uint8 images, by name, spread over the classes of `classifier`, which `judge` describes."""
    measurements = {
        "classifier_test_accuracy": Measurement(value=classifier.accuracy(test), unit="share", count=len(test))
    }
    for name, images in sets.items():
        probabilities = classifier.probabilities(images.float() / 255)
        confidence, guesses = probabilities.max(dim=1)
        shares = np.bincount(guesses.numpy(), minlength=probabilities.shape[1]) / len(images)
        found = {
            "confident_share": (confidence > CONFIDENT).double().mean().item(),
            "class_share_min": float(shares.min()),
            "class_share_max": float(shares.max()),
            **{f"class_share_{number}": float(share) for number, share in enumerate(shares)},
        }
        measurements |= {
            f"{name}_{metric}": Measurement(value=value, unit="share", count=len(images), seed=config.seed)
            for metric, value in found.items()
        }
    protocol = f"Classes are told by {judge}. An image is confident when its class has a probability above {CONFIDENT}."
    return Section(title="Classes", protocol=protocol, measurements=measurements)


def variety(samples: Tensor, dataset: Dataset, config: EvaluationConfig) -> Section:
    """Whether uint8 samples differ from one another and from the training images."""
    training, test = torch.from_numpy(dataset.train.images), torch.from_numpy(dataset.test.images)
    tested = test[subset(_NEIGHBOUR_IMAGES, len(test), config.seed)]
    near_samples = Neighbours.of(samples[:_NEIGHBOUR_IMAGES], training).distances[:, 0]
    near_test = Neighbours.of(tested, training).distances[:, 0]
    copies = (near_samples < near_test.quantile(_COPY_QUANTILE)).double()
    spread = (samples.float().var(dim=0).mean() / test.float().var(dim=0).mean()).item()
    pixels, seed = "pixel distance", config.seed
    return Section(
        title="Variety",
        protocol=(
            "Diversity: the samples' pixel variance as a fraction of the test images'. Nearest: the Euclidean "
            "distance, over pixels from 0 to 1, to the nearest training image, of samples and of test images. Close: "
            "the share of samples nearer to one than 99 % of the test images are; far above 0.01 it means copies, or "
            "samples smoother than real images."
        ),
        measurements={
            "diversity": Measurement(value=spread, unit="share", count=len(samples), seed=seed),
            "samples_nearest_median": Measurement(
                value=near_samples.median().item(), unit=pixels, count=len(near_samples), seed=seed
            ),
            "floor_nearest_median": Measurement(
                value=near_test.median().item(), unit=pixels, count=len(near_test), seed=seed
            ),
            "samples_close_share": Measurement(
                value=copies.mean().item(), unit="share", count=len(near_samples), seed=seed
            ),
        },
    )


def conditioning(
    classifier: Classifier, samples: Split, dataset: Dataset, config: EvaluationConfig, lesson: Split | None
) -> Section:
    """Whether `samples` show their labels, and, if `lesson` is given, whether a classifier can learn from it."""
    count, seed = len(samples), config.seed
    measurements = {
        "asked_label_accuracy": Measurement(value=classifier.accuracy(samples), unit="share", count=count, seed=seed)
    }
    protocol = "The share of samples in which the judge of the classes above sees the label that was asked for."
    if lesson is not None:
        for name, split in (("classifier_accuracy_score", lesson), ("classifier_accuracy_score_real", dataset.train)):
            measurements[name] = Measurement(
                value=Classifier.fit(split, seed, config.classifier_steps).accuracy(dataset.test),
                unit="share",
                count=len(dataset.test),
                seed=seed,
            )
        protocol += (
            " Classifier accuracy score (Ravuri & Vinyals 2019): the accuracy on real test images of a small network "
            f"trained on {len(lesson):,} samples alone, beside the same network trained on the {len(dataset.train):,} "
            "real training images."
        )
    return Section(title="Labels", protocol=protocol, measurements=measurements)
