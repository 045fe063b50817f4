"""Whether it pays in onnxruntime to compute an enlargement and its convolution as one convolution and a shuffle.

    python benchmarks/subpixel.py

Nearest-neighbour enlargement by 2 makes of every pixel four equal ones, so that a 3x3 convolution behind it sees 2x2
different pixels wherever it stands: it is four 2x2 convolutions, one for each place within an enlarged pixel, with 4
multiplications where there were 9 (Shi et al. 2016, arXiv:1609.05158). Exports the decoder of a fresh conv_vae as it is
and rewritten so, compares their images, and times them in turn on one thread.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from latentserve_training.export.graphs import plan_graphs
from latentserve_training.export.sessions import open_session
from latentserve_training.export.torch_to_onnx import export_graph
from latentserve_training.models import ConvVaeConfig, Vae, build

IMAGE_SHAPE = (1, 28, 28)
CHECK_ROWS = 64
ROWS = (1, 8, 64)
ROUNDS = 60
TAPS = {0: ((0,), (1, 2)), 1: ((0, 1), (2,))}
"""By place: the taps of the 3x3 kernel that meet the first and the second of the two pixels that it sees."""


class SubpixelConvolution(nn.Module):
    """The same as nn.Upsample(scale_factor=2) and then `convolution`, which is 3x3 with a padding of 1."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        kernels = [_folded(convolution.weight.detach(), row, column) for row in (1, 0) for column in (1, 0)]
        self.weight = nn.Parameter(torch.stack(kernels, dim=1).flatten(0, 1))
        assert convolution.bias is not None
        self.bias = nn.Parameter(convolution.bias.detach().repeat_interleave(4))

    def forward(self, images: Tensor) -> Tensor:
        """Images [batch, channels, height, width] to images twice as high and wide."""
        places = functional.conv2d(images, self.weight, self.bias, padding=1)
        # A row too many on either side: place 0 of a pixel looks back, and place 1 ahead, from the same corner.
        return functional.pixel_shuffle(places, 2)[:, :, 1:-1, 1:-1]


def _folded(weight: Tensor, row: int, column: int) -> Tensor:
    """The 2x2 kernel of a place, [out, in, 2, 2], of the 3x3 kernel `weight`."""
    rows = torch.stack([weight[:, :, taps].sum(2) for taps in map(list, TAPS[row])], dim=2)
    return torch.stack([rows[:, :, :, taps].sum(3) for taps in map(list, TAPS[column])], dim=3)


def rewritten(stages: nn.Module) -> nn.Sequential:
    """The stages, in their order, with every enlargement and the convolution behind it in one."""
    found: list[nn.Module] = []
    for stage in stages.children():
        if found and isinstance(found[-1], nn.Upsample) and isinstance(stage, nn.Conv2d):
            found[-1] = SubpixelConvolution(stage)
        else:
            found.append(stage)
    return nn.Sequential(*found)


def open_decoder(model: Vae, folder: Path) -> onnxruntime.InferenceSession:
    """The model's decoder in onnxruntime, exported and checked as for a bundle."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(CHECK_ROWS, model.latent_dim, generator=generator)
    decoder = plan_graphs(model, torch.rand(CHECK_ROWS, *IMAGE_SHAPE, generator=generator), latents)[-1]
    export_graph(decoder, folder / "decoder.onnx")
    return open_session((folder / "decoder.onnx").read_bytes())


def main() -> int:
    """Compare the two decoders and print the ratios of their times."""
    torch.manual_seed(0)
    model = build(ConvVaeConfig(), IMAGE_SHAPE).eval()
    assert isinstance(model, Vae)
    with tempfile.TemporaryDirectory() as name:
        plain = open_decoder(model, Path(name))
        model.decoder.stages = rewritten(model.decoder.get_submodule("stages"))
        folded = open_decoder(model, Path(name))
    latents = np.random.default_rng(0).standard_normal((max(ROWS), model.latent_dim), dtype=np.float32)
    images = [session.run(["image"], {"latent": latents})[0] for session in (plain, folded)]
    print(f"largest difference {np.abs(images[0] - images[1]).max():.1e}")
    for rows in ROWS:
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for session, times in zip((plain, folded), seconds, strict=True):
                began = time.perf_counter()
                session.run(["image"], {"latent": latents[:rows]})
                times.append(time.perf_counter() - began)
        before, after = (statistics.median(times) for times in seconds)
        print(f"{rows:3} rows: plain {1e3 * before:.2f} ms, rewritten {1e3 * after:.2f} ms, ratio {before / after:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
