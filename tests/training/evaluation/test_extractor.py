"""The pinned extractor: its file, its card and its accuracy say the same; made anew it is made by the same recipe."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from latentserve_training.data import DataConfig, Split, load
from latentserve_training.errors import RunError
from latentserve_training.evaluation.extractor import WEIGHTS, Extractor, LeNet
from latentserve_training.evaluation.extractor.__main__ import seeded_lenet, train_lenet
from latentserve_training.evaluation.extractor.pinned import write_weights

CARD = WEIGHTS.with_name("README.md")
MNIST = Path(os.environ.get("LATENTSERVE_MNIST", Path(__file__).parents[3] / "data" / "mnist"))


def test_the_card_names_the_digest_of_the_weights() -> None:
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert Extractor.read().sha256 == digest
    assert f"SHA-256 `{digest}`" in CARD.read_text()


def test_there_are_as_many_weights_as_the_card_says() -> None:
    count = sum(tensor.numel() for tensor in Extractor.read().network.state_dict().values())
    assert f"{count:,} float32 weights" in CARD.read_text()


@pytest.mark.skipif(not MNIST.is_dir(), reason="needs MNIST in data/mnist or LATENTSERVE_MNIST")
def test_the_card_s_accuracy_is_reproduced_on_the_test_images() -> None:
    stated = re.search(r"test images, measured once: ([\d.]+)%", CARD.read_text())
    assert stated is not None
    accuracy = Extractor.read().classifier.accuracy(load(DataConfig(name="mnist", root=MNIST)).test)
    assert 100 * accuracy == pytest.approx(float(stated[1]), abs=0.02)
    assert accuracy > 0.985


def test_features_are_what_the_classes_are_told_by() -> None:
    extractor = Extractor.read()
    images = torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = extractor.features(images)
    assert features.shape == (7, 84)
    expected = extractor.network.head(features).softmax(1)
    torch.testing.assert_close(extractor.classifier.probabilities(images.float() / 255), expected)


def test_training_is_a_function_of_its_seed_and_learns(tmp_path: Path) -> None:
    images = np.zeros((400, 1, 28, 28), np.uint8)
    labels = np.arange(400) % 2
    images[labels == 1, :, :14] = 255
    digests = []
    for seed in (1, 1, 2):
        network = seeded_lenet(seed)
        split = Split(images, labels)
        assert list(train_lenet(network, split, epochs=8, batch_size=50, seed=seed))[-1] == 8
        digests.append(write_weights(network, tmp_path / f"{len(digests)}.safetensors"))
        assert Extractor.read(tmp_path / f"{len(digests) - 1}.safetensors").classifier.accuracy(split) == 1.0
    assert digests[0] == digests[1] != digests[2]


def test_what_holds_no_weights_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    other = tmp_path / "other"
    write_weights(LeNet(), other)
    other.write_bytes(other.read_bytes().replace(b"head.bias", b"tail.bias"))
    for path in (tmp_path / "missing", tmp_path / "empty", other):
        with pytest.raises(RunError, match=f"{path}: not the weights of a feature extractor"):
            Extractor.read(path)
