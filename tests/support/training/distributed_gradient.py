"""`distributed_gradient.py DEVICES PLACE`: the gradient of one batch, computed by DEVICES processes.

The loss has no noise (the images are binary, and what is decoded are the posterior means), so that the gradient does
not depend on who computes which part of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from latentserve_training.data import DataConfig, load
from latentserve_training.models import ConvVaeConfig, Vae, build
from latentserve_training.run.accelerator import make_accelerator


def main(devices: int, place: Path) -> None:
    processes = make_accelerator("cpu", "float32", devices).processes
    torch.manual_seed(0)
    model = build(ConvVaeConfig(latent_dim=8, narrow=8, wide=8), (1, 8, 8))
    assert isinstance(model, Vae)
    rows = torch.from_numpy(load(DataConfig(name="digits", size=8)).train.images[:64])
    images = (processes.share(rows) > 127).float()
    posterior = model.encode(images)
    model.likelihood.nll(model.decode_parameters(posterior.mean), images).mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    processes.average(gradients)
    if processes.is_rank_zero:
        torch.save(gradients, place)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # its threads would outlive the interpreter, and abort it


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
