"""The trainer owns time: which images come when, when state is saved, when to stop. Models own what a step does."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from latentserve_training.accelerator import Device, Precision
from latentserve_training.average import averaged
from latentserve_training.checkpoint import Checkpoint, Origin, Progress
from latentserve_training.data import Dataset
from latentserve_training.errors import ConfigError, DivergedError, InterruptedRun
from latentserve_training.interruption import Interruption
from latentserve_training.journal import Journal
from latentserve_training.models import Batch, GenerativeModel, Phase
from latentserve_training.pictures import to_uint8
from latentserve_training.run_folder import RunFolder

_GRID_IMAGES = 64
_GRID_SEED = 0
_VALIDATION_SEED = 0


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long and on what to train."""

    epochs: int = 10
    """Passes over the training images; the only option that may grow when a run is continued."""

    batch_size: int = 128
    """Images in a training step. The few that do not fill a last batch sit the epoch out."""

    ema_decay: float = 0.999
    """Decay, per step, of the averaged weights that are evaluated and exported; 0 takes the latest weights."""

    device: Device = "auto"
    """Where to train; auto takes a CUDA device if there is one."""

    precision: Precision = "auto"
    """bfloat16 is mixed precision; auto takes it on CUDA and on CPUs with AVX512-BF16 or AMX, which compute in it."""

    channels_last: bool = True
    """Lay images out with channels last, which convolutions on CPUs prefer."""

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise ConfigError(f"trainer.{field} is {getattr(self, field)}; it must be at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"trainer.ema_decay is {self.ema_decay}; it must be at least 0 and less than 1")


class Trainer:
    """Trains one model on one dataset, from its first step or from a checkpoint.

    Noise and dropout draw from torch's global generator, which a checkpoint holds; the order of the images is a
    function of the seed and the epoch. On one CPU and with as many threads a continued run is the same to the bit.
    """

    def __init__(
        self,
        config: TrainerConfig,
        *,
        seed: int,
        origin: Origin,
        fabric: Fabric,
        model: GenerativeModel,
        dataset: Dataset,
    ) -> None:
        self.batches = len(dataset.train) // config.batch_size
        if not self.batches:
            raise ConfigError(
                f"trainer.batch_size is {config.batch_size}, but there are {len(dataset.train)} training images"
            )
        self.config = config
        self.seed = seed
        self.origin = origin
        self.fabric = fabric
        self.progress = Progress()
        self.images = fabric.to_device(torch.from_numpy(dataset.train.images))
        self.validation_images = fabric.to_device(torch.from_numpy(dataset.validation.images))
        conditional = bool(model.label_count)
        self.labels = self._on_device(dataset.train.labels) if conditional else None
        self.validation_labels = self._on_device(dataset.validation.labels) if conditional else None
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = model.to(fabric.device).to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.average = averaged(self.model, config.ema_decay)
        self.phases = self.model.phases()
        self.optimizers: list[Optimizer] = [phase.optimizer for phase in self.phases]

    def _on_device(self, labels: NDArray[np.int64] | None) -> Tensor:
        assert labels is not None, "a model is built conditional only where the data has labels"
        return self.fabric.to_device(torch.from_numpy(labels))

    def fit(self, journal: Journal, folder: RunFolder) -> None:
        """Train until `epochs` are done, saving after every epoch and when a signal asks to stop.

        Raises:
            DivergedError: a loss or gradient is not finite; the checkpoint of the last epoch stays.
            CollapsedError: the model says that it has collapsed; likewise.
            InterruptedRun: a signal came; the checkpoint holds the step it came after.
        """
        with Interruption() as interruption:
            while self.progress.epoch < self.config.epochs:
                self._train_epoch(journal, interruption)
                if interruption.requested and self.progress.batch < self.batches:
                    self.checkpoint().save(folder.last)
                    raise InterruptedRun(f"stopped in epoch {self.progress.epoch + 1}, after step {self.progress.step}")
                improved = self._end_epoch(journal)
                self.checkpoint().save(folder.last, *([folder.best] if improved else []))
                if interruption.requested and self.progress.epoch < self.config.epochs:
                    raise InterruptedRun(f"stopped after epoch {self.progress.epoch}, step {self.progress.step}")

    def _train_epoch(self, journal: Journal, interruption: Interruption) -> None:
        """The batches of the epoch under way that are still to do, or as many as come before an interruption."""
        order = self._order(self.progress.epoch)
        self.model.train()
        with journal.bar(self.progress.epoch + 1, self.config.epochs, self.batches, self.progress.batch) as bar:
            while self.progress.batch < self.batches and not interruption.requested:
                started = time.perf_counter()
                losses = self._step(self._batch(order[self.progress.batch]))
                self.progress.seconds += time.perf_counter() - started
                self.progress.batch += 1
                self.progress.step += 1
                for name, value in losses.items():
                    self.progress.totals[name] = self.progress.totals.get(name, 0.0) + value
                    self.progress.counts[name] = self.progress.counts.get(name, 0) + 1
                bar.update()

    def _order(self, epoch: int) -> Tensor:
        """Indices [batches, batch_size] of the epoch's images."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        whole = order[: self.batches * self.config.batch_size].reshape(self.batches, -1)
        return self.fabric.to_device(torch.from_numpy(whole))

    def _batch(self, rows: Tensor) -> Batch:
        """The training images of these rows, in [0, 1], and where in the run they come."""
        return Batch(
            images=(self.images[rows].float() / 255).contiguous(memory_format=self.memory_format),
            labels=None if self.labels is None else self.labels[rows],
            step=self.progress.step,
            epoch=self.progress.epoch + self.progress.batch / self.batches,
        )

    def _step(self, batch: Batch) -> dict[str, float]:
        """One step of every phase whose turn it is; the losses by name."""
        losses: dict[str, float] = {}
        for phase in self.phases:
            if (batch.step + 1) % phase.every == 0:
                losses |= self._descend(phase, batch)
        self.average.update_parameters(self.model)
        return losses

    def _descend(self, phase: Phase, batch: Batch) -> dict[str, float]:
        parameters = [parameter for group in phase.optimizer.param_groups for parameter in group["params"]]
        with self.fabric.autocast():
            loss, logged = phase.loss(batch)
        # Only this phase's parameters: the generator's loss must not leave gradients in the discriminator.
        self.fabric.backward(loss, inputs=parameters)
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        self._require_finite(f"{phase.name} loss", loss.item())
        self._require_finite(f"{phase.name} gradient", norm.item())
        phase.optimizer.step()
        phase.optimizer.zero_grad()
        return {name: value.item() for name, value in logged.items()} | {f"{phase.name}_gradient_norm": norm.item()}

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergedError(
                f"diverged in epoch {self.progress.epoch + 1}, after step {self.progress.step}: the {what} is {value}; "
                "the last checkpoint is from before; try a smaller model.learning_rate"
            )

    def _end_epoch(self, journal: Journal) -> bool:
        """Close the epoch: validate, record, judge. True where this is the best epoch so far."""
        progress = self.progress
        means = {name: total / progress.counts[name] for name, total in progress.totals.items()}
        averaged_model = self.averaged_model()
        generator = torch.Generator(self.fabric.device).manual_seed(_VALIDATION_SEED)
        progress.results = averaged_model.validate(self.validation_images, generator, self.validation_labels)
        for name, value in progress.results.items():
            self._require_finite(f"validation's {name}", value)
        pace = progress.step * self.config.batch_size / progress.seconds
        progress.epoch, progress.batch, progress.totals, progress.counts = progress.epoch + 1, 0, {}, {}
        record = {
            "epoch": progress.epoch,
            "epochs": self.config.epochs,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(pace, 1),
            "train": means,
            "validation": progress.results,
        }
        journal.epoch(record, to_uint8(self._grid(averaged_model)))
        for remark in self.model.diagnose(means | progress.results, progress.step):
            journal.say(f"warning: {remark}")
        if self.model.selection is None:
            return False
        score = progress.results[self.model.selection]
        if progress.best is not None and score >= progress.best:
            return False
        progress.best = score
        return True

    def averaged_model(self) -> GenerativeModel:
        """The model that is evaluated and exported, ready for inference."""
        return cast("GenerativeModel", self.average.module).eval()

    @torch.no_grad()
    def _grid(self, model: GenerativeModel) -> Tensor:
        """Images of the same latents, whatever the epoch."""
        generator = torch.Generator().manual_seed(_GRID_SEED)
        latents = torch.randn(_GRID_IMAGES, model.latent_dim, generator=generator)
        return model.decode(self.fabric.to_device(latents), model.every_label(_GRID_IMAGES, self.fabric.device))

    def checkpoint(self) -> Checkpoint:
        """The state between two steps."""
        rng = {"cpu": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        return Checkpoint(
            origin=self.origin,
            progress=self.progress,
            model=self.model.state_dict(),
            average=self.average.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            rng=rng,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from where `checkpoint` was taken."""
        self.progress = checkpoint.progress
        self.model.load_state_dict(checkpoint.model)
        self.average.load_state_dict(checkpoint.average)
        for optimizer, state in zip(self.optimizers, checkpoint.optimizers, strict=True):
            optimizer.load_state_dict(state)
        torch.set_rng_state(checkpoint.rng["cpu"])
        if "cuda" in checkpoint.rng and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint.rng["cuda"], self.fabric.device)
