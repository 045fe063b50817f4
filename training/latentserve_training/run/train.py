"""The command latentserve-train: a run started, continued or only estimated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from latentserve_training.command_line.output import say
from latentserve_training.data import PLACES, Dataset, load
from latentserve_training.errors import ConfigError, InterruptedRun, RunError, TrainingError
from latentserve_training.models import GenerativeModel, build
from latentserve_training.run.accelerator import Accelerator, make_accelerator
from latentserve_training.run.atomic_file import replace_text
from latentserve_training.run.checkpoint import Checkpoint
from latentserve_training.run.config import RunConfig, RunRequest, differences, from_dict, parse_command_line
from latentserve_training.run.estimate import estimate
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.journal import Journal, NullJournal
from latentserve_training.run.origin import Origin
from latentserve_training.run.provenance import git_commit
from latentserve_training.run.trainer import Trainer


def train(argv: Sequence[str] | None, prog: str) -> None:
    """Start the run that the command line describes, or continue it from its last checkpoint.

    Raises:
        ArgumentError: the command line is wrong.
        TrainingError: the run cannot start or cannot go on.
        InterruptedRun: a signal asked to stop; the run has been saved.
    """
    request = parse_command_line(argv, prog, "Train a model; run it again on the same folder to continue.")
    settings = request.config.trainer
    accelerator = make_accelerator(settings.device, settings.precision, settings.devices)
    try:
        _train(request, accelerator)
    except (TrainingError, InterruptedRun, KeyboardInterrupt) as end:
        if accelerator.processes.is_rank_zero:
            raise
        raise SystemExit(0) from end  # all processes end alike; the first one says why, and gives the exit code
    finally:
        # Its threads would outlive the interpreter, which then ends in an abort where there should be an exit code.
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _train(request: RunRequest, accelerator: Accelerator) -> None:
    config = request.config
    if request.dry_run:
        dataset = load(config.data, accelerator.processes.count)
        costs = estimate(start(config, dataset, accelerator))
        if accelerator.processes.is_rank_zero:
            say("\n".join((config.to_yaml(), *dataset.remarks, f"{costs}\n")))
        return
    assert request.output is not None, "only a dry run may be without"
    folder = RunFolder(request.output)
    trainer = prepare(config, folder, accelerator)
    with trainer.processes.on_rank_zero(lambda: Journal(folder, trainer.progress.step)) or NullJournal() as journal:
        journal.say(config.to_yaml())
        for remark in trainer.loader.remarks:
            journal.say(remark)
        journal.say(_opening(trainer, config.data.name, folder))
        trainer.fit(journal, folder)
        journal.say(f"trained {trainer.progress.epoch} epochs, {trainer.progress.step} steps; kept in {folder.path}")


def prepare(config: RunConfig, folder: RunFolder, accelerator: Accelerator) -> Trainer:
    """A trainer at the run's first step or at its last checkpoint; the folder then holds configuration and checkpoint.

    Raises:
        TrainingError: the folder, the configuration and the data do not fit together.
    """
    previous = _previous(folder, config)
    dataset = load(config.data, accelerator.processes.count)
    if previous is not None:
        previous.origin.require(dataset, f"choose another folder than --output {folder.path}, or the original data")
    trainer = start(config, dataset, accelerator)
    if previous is not None:
        trainer.restore(previous)
    checkpoint = trainer.checkpoint() if previous is None else None

    def write() -> None:
        # The checkpoint first: what a kill leaves behind before it is there has nothing that could be lost.
        if checkpoint is not None:
            checkpoint.save(folder.last)
        replace_text(folder.config, config.to_yaml())

    trainer.processes.wait_for_all()  # until every process has seen the folder as it was
    trainer.processes.on_rank_zero(write)
    return trainer


def start(config: RunConfig, dataset: Dataset, accelerator: Accelerator) -> Trainer:
    """A trainer at the run's first step on the data of `config`; nothing is written.

    Raises:
        ConfigError: the configuration does not fit the data or this machine.
    """
    origin = Origin(
        config=config.to_dict(),
        image_shape=dataset.image_shape,
        dataset_sha256=dataset.sha256,
        held_out_sha256=dataset.held_out_sha256,
        labels_sha256=dataset.labels_sha256,
        git_commit=git_commit(),
        label_names=dataset.label_names,
    )
    torch.manual_seed(config.seed)
    with _allocating():
        model = build(config.model, origin.image_shape, len(origin.label_names))
        _require_statistics(model, config.trainer.batch_size, accelerator.processes.count)
        return Trainer(
            config.trainer, seed=config.seed, origin=origin, accelerator=accelerator, model=model, dataset=dataset,
            placement=config.data.placement,
        )  # fmt: skip


@contextmanager
def _allocating() -> Iterator[None]:
    """Turn torch's errors for tensors that are too large, of several kinds, into an error of the configuration.

    Raises:
        ConfigError: the weights, their average or their gradients' moments cannot be allocated.
    """
    try:
        yield
    except (RuntimeError, TypeError, OverflowError) as error:
        said = str(error).splitlines()[0]
        if not any(sign in said.lower() for sign in ("allocate", "overflow")):
            raise
        raise ConfigError(f"model.* asks for weights that cannot be allocated: {said}") from error


def _require_statistics(model: GenerativeModel, batch_size: int, devices: int) -> None:
    """Raise ConfigError if batch normalisation would get a batch, or a device's share, of one image."""
    normalises = any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in model.modules())
    if normalises and batch_size < 2 * devices:
        raise ConfigError(
            f"trainer.batch_size is {batch_size}; batch normalisation needs at least 2 images a device, {2 * devices}"
        )


def _previous(folder: RunFolder, config: RunConfig) -> Checkpoint | None:
    """The checkpoint to continue from, if any.

    Raises:
        RunError: the folder is something else, or holds a run with another configuration.
    """
    if not folder.last.is_file():
        if not folder.is_fresh():
            raise RunError(
                f"--output {folder.path} exists and holds no checkpoint to continue from; choose another folder"
            )
        return None
    checkpoint = Checkpoint.load(folder.last)
    # Read and written again, so that options which did not exist then stand there with their defaults.
    previous = from_dict(checkpoint.origin.config)
    changed = differences(_comparable(previous.to_dict()), _comparable(config.to_dict()))
    if changed:
        raise RunError(
            f"--output {folder.path} holds a run with another configuration ({'; '.join(changed)}); "
            "choose another folder, or the run's own configuration, of which only trainer.epochs may change"
        )
    progress = checkpoint.progress
    begun = progress.epoch + (progress.batch > 0)
    if config.trainer.epochs < begun:
        raise RunError(f"trainer.epochs is {config.trainer.epochs}, but {folder.path} has begun epoch {begun} already")
    return checkpoint


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the epochs, which may change, and the data's paths, whose digest is compared."""
    data = {key: value for key, value in config["data"].items() if key not in PLACES}
    trainer = {key: value for key, value in config["trainer"].items() if key != "epochs"}
    return {**config, "data": data, "trainer": trainer}


def _opening(trainer: Trainer, data: str, folder: RunFolder) -> str:
    start = f"continuing after step {trainer.progress.step}" if trainer.progress.step else "starting"
    weights = sum(parameter.numel() for parameter in trainer.model.parameters())
    accelerator = trainer.accelerator
    computing = f"{accelerator.device} in {accelerator.precision} on {torch.get_num_threads()} threads"
    if trainer.processes.count > 1:
        computing = f"{trainer.processes.count} processes, each on {computing}"
    return f"{start}: {weights:,} weights, {len(trainer.loader):,} images of {data}, {computing}, into {folder.path}"
