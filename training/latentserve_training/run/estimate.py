"""An estimate of a run's memory and time, measured over its first few steps."""

from __future__ import annotations

import itertools
import math
import statistics
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from latentserve_training.models import Batch, GenerativeModel, Phase
from latentserve_training.run.trainer import Trainer

_FIRST_STEPS = 3
"""Steps of a kind before the clock counts: the first ones allocate optimizer states and choose kernels."""

_TIMED_STEPS = 10
"""Steps of a kind that the clock counts."""

_COUNTED_STEPS = 100_000
"""Steps of the run among which kinds are counted: a rarer kind takes too little time to matter."""

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The memory and time that a run takes on its device."""

    parameters: Mapping[str, int]
    """Trained numbers in each part of the model."""
    bytes_: Mapping[str, int]
    """Memory of a training step by what takes it, in bytes; activations are what the backward pass needs."""
    step_seconds: float
    """Time of a step: of each kind of step the median of several, weighed by how often it comes."""
    validation_seconds: float
    """Time of one validation."""
    batches: int
    """Steps in an epoch."""
    epochs: int

    @property
    def seconds(self) -> float:
        """Time of the whole run, validations included."""
        return self.epochs * (self.batches * self.step_seconds + self.validation_seconds)

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {count:,}" for part, count in self.parameters.items())
        memory = ", ".join(f"{what} {size / _MEBIBYTE:.1f}" for what, size in self.bytes_.items())
        epoch = self.seconds / self.epochs
        return "\n".join(
            (
                f"parameters: {sum(self.parameters.values()):,} ({parts})",
                f"memory of a step: {sum(self.bytes_.values()) / _MEBIBYTE:.1f} MiB ({memory})",
                f"time: {1e3 * self.step_seconds:.1f} ms a step, {self.batches} steps and {epoch:.1f} s an epoch, "
                f"about {_duration(self.seconds)} for {self.epochs} epochs on this machine as busy as it is now",
            )
        )


def estimate(trainer: Trainer) -> Estimate:
    """Train a few steps of each kind and validate once on real images; do not use the trainer afterwards.

    Raises:
        DivergedError: a loss or gradient is not finite within these steps.
    """
    model = trainer.model
    batch = trainer.loader.batch(trainer.loader.order(0)[0], number=0, step=0, epoch=0)
    shares = kinds_of_steps(trainer.phases, trainer.batches * trainer.config.epochs)
    batches = [replace(batch, step=step) for step in shares]
    seconds = sum(share * _seconds_of_step(trainer, step) for step, share in shares.items())
    weights = _size(model.parameters())
    return Estimate(
        parameters=_parameters(model),
        bytes_={
            "weights": weights,
            "gradients": weights,
            "optimizers": _size(
                value
                for optimizer in trainer.optimizers
                for state in optimizer.state.values()
                for value in state.values()
                if isinstance(value, Tensor)
            ),
            "average": _size(trainer.ema_model().state_dict().values()),
            "activations": max(_activations(trainer, kind) for kind in batches),
        },
        step_seconds=seconds,
        validation_seconds=_seconds_of_validation(trainer),
        batches=trainer.batches,
        epochs=trainer.config.epochs,
    )


def kinds_of_steps(phases: Sequence[Phase], steps: int) -> dict[int, float]:
    """The first step of every kind among `steps` of a run, and the share of the steps that are of its kind.

    Steps are of one kind if the same phases run and the same periodic extras are due.
    """
    counted = min(steps, _COUNTED_STEPS, math.lcm(*(number for one in phases for number in (one.every, one.period))))
    kinds = [tuple((one.is_due(step), step % one.period == 0) for one in phases) for step in range(counted)]
    return {kinds.index(kind): count / counted for kind, count in Counter(kinds).items()}


def _parameters(model: GenerativeModel) -> dict[str, int]:
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in model.named_children()}
    return {name: count for name, count in counts.items() if count}


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _seconds_of_step(trainer: Trainer, step: int) -> float:
    """The median time of steps of this kind, without skipped ones, as float16's first ones may be."""
    trainer.model.train()
    seconds: list[float] = []
    rows = itertools.cycle(trainer.loader.order(0))
    while len(seconds) < _FIRST_STEPS + _TIMED_STEPS:
        skipped = sum(trainer.progress.skipped.values())
        started = time.perf_counter()
        # Reads its losses, so that a GPU has finished when it returns.
        trainer.step(trainer.loader.batch(next(rows), number=0, step=step, epoch=0))
        if sum(trainer.progress.skipped.values()) == skipped:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[_FIRST_STEPS:])


def _seconds_of_validation(trainer: Trainer) -> float:
    started = time.perf_counter()
    trainer.validate()
    return time.perf_counter() - started


def _activations(trainer: Trainer, batch: Batch) -> int:
    """The peak bytes, within a step, of the tensors that autograd saves for the backward pass, without weights."""
    kept = _Kept(parameter.untyped_storage().data_ptr() for parameter in trainer.model.parameters())
    trainer.model.train()
    with saved_tensors_hooks(kept.pack, kept.unpack):
        trainer.step(batch)
    return kept.peak


class _Kept:
    """Counts the bytes of saved tensors while autograd's graph holds them, each storage once."""

    def __init__(self, without: Iterable[int]) -> None:
        self._without = set(without)
        self._holders: Counter[int] = Counter()
        self._now = 0
        self.peak = 0

    def pack(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place not in self._without:
            self._now += 0 if self._holders[place] else size
            self._holders[place] += 1
            self.peak = max(self.peak, self._now)
            weakref.finalize(saved, self._release, place, size)
        return saved

    @staticmethod
    def unpack(saved: _Saved) -> Tensor:
        return saved.tensor

    def _release(self, place: int, size: int) -> None:
        self._holders[place] -= 1
        self._now -= 0 if self._holders[place] else size


class _Saved:
    """A handle for a tensor that autograd saves, so that its release can be observed."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
