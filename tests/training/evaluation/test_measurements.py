"""What a report says of images whose answer is known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from latentserve_training.data import DataConfig, Dataset, Split, load
from latentserve_training.evaluation import measurements
from latentserve_training.evaluation.classifier import Classifier
from latentserve_training.evaluation.config import QUICK
from latentserve_training.evaluation.extractor import Extractor
from latentserve_training.evaluation.fidelity import Fidelity

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig(size=8))


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> Classifier:
    return Classifier.fit(digits.train, seed=0, fewest_steps=300)


def shuffled(split: Split) -> Split:
    assert split.labels is not None
    return replace(split, labels=RANDOM.permutation(split.labels))


def test_copies_of_training_images_are_close_and_noise_is_not(digits: Dataset) -> None:
    copies = measurements.variety(torch.from_numpy(digits.train.images[:300]), digits, QUICK).measurements
    assert copies["samples_close_share"].value == 1
    assert copies["samples_nearest_median"].value == 0 < copies["floor_nearest_median"].value
    noise = torch.from_numpy(RANDOM.integers(0, 256, (300, 1, 8, 8), dtype=np.uint8))
    assert measurements.variety(noise, digits, QUICK).measurements["samples_close_share"].value == 0
    flat = torch.full((300, 1, 8, 8), 100, dtype=torch.uint8)
    assert measurements.variety(flat, digits, QUICK).measurements["diversity"].value == 0


def test_a_classifier_learns_from_samples_only_what_they_teach(digits: Dataset, classifier: Classifier) -> None:
    def score(lesson: Split) -> float:
        found = measurements.conditioning(classifier, lesson, digits, QUICK, lesson).measurements
        assert found["classifier_accuracy_score_real"].value > 0.9
        return found["classifier_accuracy_score"].value

    assert score(digits.train) > 0.9
    assert score(shuffled(digits.train)) < 0.4


def test_a_label_counts_where_it_is_seen(digits: Dataset, classifier: Classifier) -> None:
    def accuracy(samples: Split) -> float:
        return (
            measurements.conditioning(classifier, samples, digits, QUICK, None)
            .measurements["asked_label_accuracy"]
            .value
        )

    assert accuracy(digits.test) > 0.9
    assert accuracy(shuffled(digits.test)) < 0.3


def test_classes_and_confidence_are_those_of_the_images(digits: Dataset, classifier: Classifier) -> None:
    assert digits.train.labels is not None
    sevens = torch.from_numpy(digits.train.images[digits.train.labels == 7])
    grey = torch.full((100, 1, 8, 8), 60, dtype=torch.uint8)
    found = measurements.classes(classifier, "", digits.test, {"sevens": sevens, "grey": grey}, QUICK).measurements
    assert found["sevens_class_share_7"].value == found["sevens_class_share_max"].value > 0.95
    assert found["sevens_class_share_min"].value == 0
    assert found["sevens_confident_share"].value > 0.9
    sure = classifier.probabilities(grey.float() / 255).max() > measurements.CONFIDENT
    assert found["grey_confident_share"].value == float(sure)


def test_the_floor_is_what_test_images_score() -> None:
    digits, extractor = load(DataConfig(size=28)), Extractor.read()
    training, test = (torch.from_numpy(split.images) for split in (digits.train, digits.test))
    found = measurements.fidelity(extractor, digits, {"samples": training[:200]}, QUICK).measurements
    floor = Fidelity.between(extractor.features(training), extractor.features(test), QUICK.seed)
    assert found["floor_fid"].value == pytest.approx(floor.fid, rel=1e-3)
    assert found["floor_fid"].count == len(test)
