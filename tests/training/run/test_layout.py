"""What makes steps fast is switched on and off, and told."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.data import load
from latentserve_training.run.accelerator import make_accelerator
from latentserve_training.run.config import parse_command_line
from latentserve_training.run.folder import RunFolder
from latentserve_training.run.train import start


@pytest.mark.parametrize("channels_last", [True, False])
def test_convolutions_lie_in_memory_as_asked(tmp_path: Path, channels_last: bool) -> None:
    argv = [*arguments("conv_vae", tmp_path), "--trainer.channels_last", str(channels_last).lower()]
    config = parse_command_line(argv, "train", "").config
    trainer = start(config, load(config.data), make_accelerator("cpu", "float32", 1))
    kernels = [weight for weight in trainer.model.parameters() if weight.dim() == 4 and min(weight.shape[1:]) > 1]
    assert kernels
    assert {kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels} == {channels_last}


def test_an_epoch_tells_how_many_images_a_second_it_took(tmp_path: Path) -> None:
    started = time.perf_counter()
    assert commands.train(arguments("mlp_vae", tmp_path / "run")) == 0
    whole = time.perf_counter() - started
    *_, last = map(json.loads, RunFolder(tmp_path / "run").metrics.read_text().splitlines())
    assert 0 < last["seconds"] < whole
    assert last["images_per_second"] == pytest.approx(last["step"] * 256 / last["seconds"], rel=0.05)
