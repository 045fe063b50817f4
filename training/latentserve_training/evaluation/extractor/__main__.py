"""`python -m latentserve_training.evaluation.extractor`: the extractor's own training.

A new extractor makes all distances measured before it incomparable. This is here to show how the pinned one was made.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from latentserve_training.command_line.outcome import run
from latentserve_training.command_line.output import say
from latentserve_training.command_line.parser import make_parser
from latentserve_training.data import DataConfig, Dataset, Split, load
from latentserve_training.evaluation.classifier import Classifier
from latentserve_training.evaluation.extractor.lenet import LeNet
from latentserve_training.evaluation.extractor.pinned import WEIGHTS, write_weights

PROG = "python -m latentserve_training.evaluation.extractor"
_BATCH = 64
_LEARNING_RATE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the extractor is trained."""

    data_root: Path
    epochs: int
    seed: int


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write as `argv` says (the process's own arguments when absent); returns the exit code."""
    return run(lambda: _main(argv), PROG)


def _main(argv: Sequence[str] | None) -> None:
    parser = make_parser(PROG, "Train the feature extractor on MNIST; writes weights, and a card beside them.")
    parser.add_argument("--data-root", type=Path, required=True, help="Folder of MNIST's four IDX files.")
    parser.add_argument("--output", type=Path, required=True, help="File of the weights, such as lenet.safetensors.")
    parser.add_argument("--epochs", type=int, default=12, help="Passes over 54,000 training images.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of the weights and of the images' order.")
    values = parser.parse_args(argv)
    recipe = Recipe(data_root=values.data_root, epochs=values.epochs, seed=values.seed)
    dataset = load(DataConfig(name="mnist", root=recipe.data_root))
    network, chosen, validation = _train(recipe, dataset)
    sha256 = write_weights(network, values.output)
    page = _card(recipe, chosen, validation, Classifier(network).accuracy(dataset.test), sha256, dataset)
    values.output.with_name("README.md").write_text(page, encoding="utf-8")
    say(page)


def _train(recipe: Recipe, dataset: Dataset) -> tuple[LeNet, int, float]:
    """The network of the epoch with the best validation accuracy, that epoch and that accuracy."""
    network = seeded_lenet(recipe.seed)
    best, chosen, accuracy = network, 0, -1.0
    for epoch in train_lenet(network, dataset.train, epochs=recipe.epochs, batch_size=_BATCH, seed=recipe.seed):
        found = Classifier(network).accuracy(dataset.validation)
        say(f"epoch {epoch}/{recipe.epochs} | validation accuracy {found:.4f}\n")
        if found > accuracy:
            best, chosen, accuracy = copy.deepcopy(network), epoch, found
    return best, chosen, accuracy


def seeded_lenet(seed: int) -> LeNet:
    """A LeNet whose weights are drawn with `seed`; torch's global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LeNet()


def train_lenet(network: LeNet, split: Split, *, epochs: int, batch_size: int, seed: int) -> Iterator[int]:
    """Train on `split`, which has labels, yielding the number of epochs done after every one.

    Adam, its step size falling from 2e-3 to 0 along a cosine; the order of the images comes from `seed`.
    """
    assert split.labels is not None, "training a classifier takes labels"
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    batches = -(-len(split) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * batches)
    for epoch in range(epochs):
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(split)))
        network.train()
        bar = tqdm(torch.split(order, batch_size), desc=f"LeNet {epoch + 1}/{epochs}", leave=False, disable=None)
        for rows in bar:
            loss = functional.cross_entropy(network(images[rows].float() / 255), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.eval()
        yield epoch + 1


def _card(recipe: Recipe, chosen: int, validation: float, test: float, sha256: str, dataset: Dataset) -> str:
    train, held_out, tested = (len(part) for part in (dataset.train, dataset.validation, dataset.test))
    return f"""# The feature extractor

`{WEIGHTS.name}`: a LeNet-5 with rectifiers and max pooling, 61,706 float32 weights.
SHA-256 `{sha256}`.
Its 84 features before the classes are what FID, KID, precision and recall are measured in; its classes count samples.

- Data: MNIST. {train:,} of its training images moved the weights, the other {held_out:,} chose the epoch: {chosen} of
  {recipe.epochs}, with {validation:.2%} right. The test images took no part. Digest of the {train:,}:
  `{dataset.sha256}`.
- Accuracy on the {tested:,} test images, measured once: {test:.2%}.
- Made by `{PROG} --data-root MNIST --output {WEIGHTS.name} --epochs {recipe.epochs} --seed {recipe.seed}` with PyTorch
  {torch.__version__}, threads: {torch.get_num_threads()}, batches of {_BATCH}, Adam at 2e-3 falling along a cosine.

Distances in these features compare with each other where the digest is the same, and with nothing else: not with
distances in Inception's features, nor with another LeNet's. Training it anew gives other weights and other distances.
"""


if __name__ == "__main__":
    sys.exit(main())
