"""Whether a row's bits depend on its batch: what is tried of a graph, by the time that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn
from training.foreign_models import write
from training.small_decoder import seeded_latents

from latentserve_training.export.graphs import TorchPlan
from latentserve_training.export.parity import RowBits, Trial

PLAIN = "g (float[batch, 3] latent) => (float[batch, 3] image) { image = Identity(latent) }"
COUNTING = PLAIN.replace(
    "image = Identity(latent)",
    "s = Shape<start = 0, end = 1>(latent)\n n = Cast<to = 1>(s)\n m = Mul(n, share)\n image = Add(latent, m)",
)
"""Adds a ten-millionth for every row of the batch, which is within what other sums may do."""


class Same(nn.Module):
    def forward(self, latent: Tensor) -> tuple[Tensor]:
        return (latent,)


def trial(folder: Path, graph: str) -> Trial:
    plan = TorchPlan(role="decoder", module=Same(), example=seeded_latents(0), outputs=("image",))
    return Trial(write(folder / "decoder.onnx", graph), plan)


@pytest.mark.parametrize(
    ("graph", "seconds", "found"),
    [
        (PLAIN, 3600.0, RowBits("", 64)),
        (PLAIN, 0.0, RowBits("", 0)),
        (COUNTING, 3600.0, RowBits("'image' in a batch of 3", 64)),
        (COUNTING, 0.0, RowBits("'image' in a batch of 1", 0)),
    ],
)
def test_where_a_trial_would_take_too_long_what_the_check_of_parity_ran_is_compared(
    tmp_path: Path, graph: str, seconds: float, found: RowBits
) -> None:
    tried = trial(tmp_path, graph)
    assert tried.check_parity() <= 1e-5
    assert tried.row_bits(seconds) == found
