"""A trained model, rebuilt from its run folder, with its data and samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from latentserve_training.data import Dataset, Split, load
from latentserve_training.errors import RunError
from latentserve_training.models import GenerativeModel, build
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.config import RunConfig, from_dict
from latentserve_training.run.ema import make_ema
from latentserve_training.run.folder import RunFolder


@dataclass(frozen=True)
class TrainedModel:
    """The averaged weights of a run's chosen checkpoint, in inference mode, and what they came from."""

    folder: RunFolder
    config: RunConfig
    checkpoint: Checkpoint
    checkpoint_sha256: str
    model: GenerativeModel

    @classmethod
    def load(cls, path: Path) -> TrainedModel:
        """The model of the run in `path`: its best checkpoint where the family has one, else its last.

        Raises:
            RunError: the folder holds no usable checkpoint, or one of another network.
        """
        folder = RunFolder(path)
        checkpoint, digest = Checkpoint.load_with_digest(folder.chosen())
        if not checkpoint.progress.epoch:
            raise RunError(f"{path} has not finished its first epoch; train on before evaluating or exporting")
        config = from_dict(checkpoint.origin.config)
        model = build(config.model, checkpoint.origin.image_shape, len(checkpoint.origin.label_names))
        ema = make_ema(model, config.trainer.ema_decay)
        with checkpoint.refusing_other_networks():
            ema.load_state_dict(checkpoint.average)
        model.load_state_dict(ema.module.state_dict())
        return cls(folder, config, checkpoint, digest, model.eval().requires_grad_(False))

    def dataset(self, root: Path | None) -> Dataset:
        """The data of the run, found in `root` where given, else where it was when training.

        Raises:
            DataError: the data cannot be read.
            RunError: it is not the data that the run was trained on.
        """
        # Where its images lay is a matter of the machine that trained it.
        config = replace(self.config.data, root=root or self.config.data.root, placement="auto")
        dataset = load(config)
        self.checkpoint.origin.require(dataset, "set --data-root to the folder of the original data")
        return dataset

    def collapse(self, split: Split, seed: int) -> str:
        """How samples drawn with `seed` have collapsed compared with images of `split`; empty if they have not."""
        generator = torch.Generator().manual_seed(seed)
        return self.model.collapse(torch.from_numpy(split.images), generator, self.model.labels_of(split.labels))

    def sample(self, count: int, seed: int) -> torch.Tensor:
        """`count` images [count, channels, height, width] in [0, 1], decoded from latents drawn with `seed`.

        Of a conditional model they have the labels 0, 1, ... in turn.
        """
        return self.model.decode(self.latents(count, seed), self.model.every_label(count))

    def latents(self, count: int, seed: int) -> torch.Tensor:
        """`count` draws from the prior, float32 [count, latent_dim]."""
        return torch.randn(count, self.model.latent_dim, generator=torch.Generator().manual_seed(seed))
