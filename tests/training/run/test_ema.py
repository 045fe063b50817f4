"""The moving average against its definition."""

from __future__ import annotations

import pytest
import torch

from latentserve_training.models import MlpGanConfig, build
from latentserve_training.run.ema import make_ema


@pytest.mark.parametrize("decay", [0.0, 0.25, 0.9])
def test_weights_and_buffers_follow_the_warmed_up_average(decay: float) -> None:
    torch.manual_seed(0)
    model = build(MlpGanConfig(latent_dim=2, generator_width=4, discriminator_width=4), (1, 4, 4))
    average = make_ema(model, decay)
    name, buffer = "generator.0.weight", "generator.1.running_mean"
    expected: dict[str, torch.Tensor] = {}
    for update in range(30):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(torch.ones_like(tensor) * (update % 3))
        average.update_parameters(model)
        weight = 1.0 if update == 0 else 1 - min(decay, (1 + update) / (10 + update))
        for key in (name, buffer):
            current = model.state_dict()[key].double()
            expected[key] = expected.get(key, current) + weight * (current - expected.get(key, current))
    for key in (name, buffer):
        torch.testing.assert_close(average.module.state_dict()[key].double(), expected[key], rtol=1e-5, atol=1e-5)
    counted = "generator.1.num_batches_tracked"
    assert torch.equal(average.module.state_dict()[counted], model.state_dict()[counted])
