"""The training loop and its settings: batches, optimizer steps, validation, checkpoints."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from latentserve_training.data import Dataset
from latentserve_training.data.placement import Placement
from latentserve_training.errors import ConfigError, InterruptedRun
from latentserve_training.image_grid import to_uint8
from latentserve_training.interruption import Interruption
from latentserve_training.models import Batch, GenerativeModel, Phase, Validation
from latentserve_training.run import rng
from latentserve_training.run.accelerator import Accelerator, Device, Precision
from latentserve_training.run.batches import BatchLoader
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.ema import make_ema
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.journal import Journal, NullJournal
from latentserve_training.run.loss_scale import LossScale
from latentserve_training.run.origin import Origin
from latentserve_training.run.progress import Progress

_GRID_IMAGES = 64
_NOISE_SEED = 0


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long to train, and on which devices."""

    epochs: int = 10
    """Passes over the training images; the only option that may change later, to no fewer than are done."""

    batch_size: int = 128
    """Images in a training step, of all devices together. The few that do not fill a last batch sit the epoch out."""

    ema_decay: float = 0.999
    """Decay, per step, of the averaged weights that are evaluated and exported; 0 takes the latest weights."""

    device: Device = "auto"
    """Where to train; auto takes a CUDA device if there is one."""

    devices: int = 1
    """Devices that train together, one process each, on equal shares of every batch; under torchrun, its number."""

    precision: Precision = "auto"
    """bfloat16 is mixed precision; auto takes it on CUDA and on CPUs with AVX512-BF16 or AMX, which compute in it.
    float16, with scaled losses, is for GPUs without bfloat16; auto never takes it."""

    channels_last: bool = True
    """Lay images out with channels last, which convolutions on CPUs prefer."""

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size", "devices"):
            if getattr(self, field) < 1:
                raise ConfigError(f"trainer.{field} is {getattr(self, field)}; it must be at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"trainer.ema_decay is {self.ema_decay}; it must be at least 0 and less than 1")


class Trainer:
    """Trains one model on one dataset: it decides when things happen, the model what happens in a step.

    Noise and dropout draw from torch's global generator, which a checkpoint holds; the order of the images is a
    function of the seed and the epoch. On one CPU and with as many threads a continued run is the same to the bit.
    Where several processes train together, all call the same methods, and the first one writes.
    """

    def __init__(
        self,
        config: TrainerConfig,
        *,
        seed: int,
        origin: Origin,
        accelerator: Accelerator,
        model: GenerativeModel,
        dataset: Dataset,
        placement: Placement = "auto",
    ) -> None:
        self.config = config
        self.origin = origin
        self.accelerator = accelerator
        self.processes = accelerator.processes
        self.progress = Progress()
        conditional = bool(model.label_count)
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.loader = BatchLoader(
            dataset, batch_size=config.batch_size, labelled=conditional, memory_format=memory_format, seed=seed,
            accelerator=accelerator, placement=placement,
        )  # fmt: skip
        self.batches = self.loader.batches
        self.model = model.to(accelerator.device).to(memory_format=memory_format)  # type: ignore[call-overload]
        self.ema = make_ema(self.model, config.ema_decay)
        self.phases = self.model.phases()
        self.optimizers = [phase.optimizer for phase in self.phases]
        self.scales = {phase.name: LossScale.first(config.precision) for phase in self.phases}
        self.progress.skipped = {name: 0 for name, scale in self.scales.items() if scale.adapts}
        self.processes.seed_rank(seed)

    def fit(self, journal: Journal | NullJournal, folder: RunFolder) -> None:
        """Train until `epochs` are done, saving after every epoch and when a signal asks to stop.

        Raises:
            DivergedError: a loss or gradient is not finite; the checkpoint of the last epoch stays.
            CollapsedError: the model says that it has collapsed; likewise.
            InterruptedRun: a signal came; the checkpoint holds the step it came after.
            RunError: a checkpoint cannot be saved; the one before stays.
        """
        with Interruption() as interruption:
            while self.progress.epoch < self.config.epochs:
                stopping = self._train_epoch(journal, interruption)
                if stopping and self.progress.batch < self.batches:
                    self._save(folder.last)
                    raise InterruptedRun(f"stopped in epoch {self.progress.epoch + 1}, after step {self.progress.step}")
                improved = self._end_epoch(journal)
                self._save(folder.last, *([folder.best] if improved else []))
                if stopping and self.progress.epoch < self.config.epochs:
                    raise InterruptedRun(f"stopped after epoch {self.progress.epoch}, step {self.progress.step}")

    def _train_epoch(self, journal: Journal | NullJournal, interruption: Interruption) -> bool:
        """Train the remaining batches of the current epoch, or until interrupted; returns whether it was."""
        progress = self.progress
        order = self.loader.order(progress.epoch)
        self.model.train()
        stopping = False
        with journal.bar(progress.epoch + 1, self.config.epochs, self.batches, progress.batch) as bar:
            while progress.batch < self.batches and not stopping:
                started = time.perf_counter()
                rows = order[progress.batch]
                batch = self.loader.batch(rows, number=progress.batch, step=progress.step, epoch=progress.epoch)
                progress.count(self.step(batch), time.perf_counter() - started)
                bar.update()
                stopping = self.processes.any(interruption.requested)
        return stopping

    def step(self, batch: Batch) -> dict[str, float]:
        """One step of every phase that is due; returns the losses by name.

        Raises:
            DivergedError: a loss or gradient is not finite.
        """
        losses: dict[str, float] = {}
        for phase in self.phases:
            if phase.is_due(batch.step):
                losses |= self._step_phase(phase, batch)
        self.processes.average(self.model.buffers())  # batch normalisation has seen only this process's share
        self.ema.update_parameters(self.model)
        return losses

    def _step_phase(self, phase: Phase, batch: Batch) -> dict[str, float]:
        scale = self.scales[phase.name]
        parameters = [parameter for group in phase.optimizer.param_groups for parameter in group["params"]]
        with self.accelerator.autocast():
            loss, logged = phase.loss(batch)
        # Only this phase's parameters: the generator's loss must not leave gradients in the discriminator.
        torch.autograd.backward(loss * scale.factor, inputs=parameters)
        gradients = scale.unscale(parameters)
        self.processes.average(gradients)
        norm = get_total_norm(gradients).item()
        losses = self.processes.mean({name: value.item() for name, value in logged.items()} | {"": loss.item()})
        descended = losses.pop("")
        # Models log a sum before its parts; reversing blames the part, not the sum.
        self.progress.require_finite(phase.name, dict(reversed(losses.items())) | {"loss": descended})
        if scale.overflows(norm):
            self.progress.skipped[phase.name] += 1
        else:
            self.progress.require_finite(phase.name, {"gradient": norm})
            phase.optimizer.step()
            losses[f"{phase.name}_gradient_norm"] = norm
        phase.optimizer.zero_grad()
        return losses

    def _end_epoch(self, journal: Journal | NullJournal) -> bool:
        """Close the epoch: validate, record, warn; returns whether it is the best so far."""
        progress = self.progress
        means = progress.means()
        validation = self.validate()
        progress.results = validation.results
        progress.require_finite("validation", progress.results)
        progress.close_epoch()
        record = {
            "epoch": progress.epoch,
            "epochs": self.config.epochs,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.step * self.config.batch_size / progress.seconds, 1),
            "train": means,
            "validation": validation.results,
            "series": validation.series,
        }
        self.processes.on_rank_zero(lambda: journal.epoch(record, to_uint8(self._grid(self.ema_model()))))
        for remark in self.model.diagnose(means | progress.results, progress.step):
            journal.say(f"warning: {remark}")
        return self.model.selection is not None and progress.improve(progress.results[self.model.selection])

    def validate(self) -> Validation:
        """Validate the averaged model, with the same noise every time."""
        generator = torch.Generator(self.accelerator.device).manual_seed(_NOISE_SEED)
        return self.ema_model().validate(self.loader.validation_images, generator, self.loader.validation_labels)

    def ema_model(self) -> GenerativeModel:
        """The averaged model, which is evaluated and exported, in inference mode."""
        return cast("GenerativeModel", self.ema.module).eval()

    @torch.no_grad()
    def _grid(self, model: GenerativeModel) -> Tensor:
        """Sample images, from the same latents in every epoch."""
        latents = torch.randn(_GRID_IMAGES, model.latent_dim, generator=torch.Generator().manual_seed(_NOISE_SEED))
        return model.decode(self.accelerator.place(latents), model.every_label(_GRID_IMAGES, self.accelerator.device))

    def _save(self, path: Path, *also: Path) -> None:
        checkpoint = self.checkpoint()
        self.processes.on_rank_zero(lambda: checkpoint.save(path, *also))

    def checkpoint(self) -> Checkpoint:
        """The state between two steps."""
        return Checkpoint(
            origin=self.origin,
            progress=self.progress,
            model=self.model.state_dict(),
            average=self.ema.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            scales={name: asdict(scale) for name, scale in self.scales.items()},
            rng=rng.capture(self.processes, self.accelerator.device),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of `checkpoint`.

        Raises:
            RunError: another number of processes took it, or another network.
        """
        with checkpoint.refusing_other_networks():
            self.model.load_state_dict(checkpoint.model)
            self.ema.load_state_dict(checkpoint.average)
            for optimizer, state in zip(self.optimizers, checkpoint.optimizers, strict=True):
                optimizer.load_state_dict(state)
            self.scales = {name: LossScale(**checkpoint.scales[name]) for name in self.scales}
        rng.restore(checkpoint.rng, self.processes, self.accelerator.device)
        self.progress = checkpoint.progress
