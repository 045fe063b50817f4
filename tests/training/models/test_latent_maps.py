"""Image-shaped latents: rows in row-major order, each value about its own part of the image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentserve_training.errors import ConfigError
from latentserve_training.models import Batch, ConvVaeConfig, ImageShape, Vae, build
from latentserve_training.models.losses import gaussian_kl
from latentserve_training.run.config import from_dict


def built(shape: tuple[int, int, int], image_shape: ImageShape = (1, 32, 32)) -> Vae:
    torch.manual_seed(0)
    model = build(ConvVaeConfig(latent_shape=shape, narrow=8, wide=8), image_shape)
    assert isinstance(model, Vae)
    return model.eval()


def changed(first: Tensor, second: Tensor) -> list[tuple[int, int]]:
    """The places [height, width] at which maps [1, channels, height, width] differ, as their first and last indices."""
    places = (first - second).abs().amax((0, 1)).nonzero()
    return [(int(column.min()), int(column.max())) for column in places.unbind(1)]


@pytest.mark.parametrize(
    ("image_shape", "shape"),
    [((1, 28, 28), (4, 7, 7)), ((3, 32, 32), (1, 16, 16)), ((3, 64, 64), (4, 8, 8)), ((2, 12, 20), (5, 3, 5))],
)
def test_the_networks_halve_the_sides_until_the_latent_s_are_met(
    image_shape: ImageShape, shape: tuple[int, int, int]
) -> None:
    model = built(shape, image_shape)
    channels, height, width = shape
    assert (model.latent_shape, model.latent_dim) == (shape, channels * height * width)
    (phase,) = model.phases()
    loss, _ = phase.loss(Batch(images=torch.rand(4, *image_shape)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    assert model.decode(torch.randn(2, model.latent_dim)).shape == (2, *image_shape)


def test_a_latent_is_of_the_part_of_the_image_that_lies_where_it_does() -> None:
    model, images = built((4, 8, 8)), torch.zeros(1, 1, 32, 32)
    images[:, :, 4:8, 20:24] = 1
    dark, lit = (model.encode(one) for one in (torch.zeros_like(images), images))
    for before, after in zip(dark, lit, strict=True):
        (top, bottom), (left, right) = changed(before.view(1, 4, 8, 8), after.view(1, 4, 8, 8))
        assert 0 <= top <= 1 <= bottom <= 3, "pixels 4 to 7 are row 1 of 8"
        assert 3 <= left <= 5 <= right <= 7, "pixels 20 to 23 are column 5 of 8"


def test_a_latent_moves_the_pixels_where_it_lies_and_no_others() -> None:
    model, rows = built((4, 8, 8)), torch.zeros(2, 4, 8, 8)
    rows[1, 2, 6, 1] = 3.0
    still, moved = model.decode(rows.flatten(1)).split(1)
    (top, bottom), (left, right) = changed(still, moved)
    assert 16 <= top <= 24 <= 27 <= bottom
    assert left <= 4 <= 7 <= right <= 16


def test_the_kl_is_summed_over_all_values_of_the_maps() -> None:
    model, images = built((4, 8, 8)), torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)
    validation = model.validate(images, torch.Generator().manual_seed(0))
    x = model.likelihood.observe(images.float() / 255, torch.Generator().manual_seed(0))
    terms = gaussian_kl(*model.encode(x))
    assert terms.shape == (8, 256)
    assert validation.results["kl_nats"] == pytest.approx(terms.sum(1).mean().item(), rel=1e-5)
    assert len(validation.series["kl_nats_by_latent"]) == 256


def test_sides_that_no_halving_makes_are_refused() -> None:
    for shape in ((4, 4, 8), (4, 32, 32), (4, 3, 3)):
        with pytest.raises(ConfigError, match="a latent is 16x16 or 8x8 or 4x4 or 2x2 or 1x1, their sides halved"):
            built(shape)


def test_a_configuration_from_before_there_were_shapes_is_that_of_a_vector() -> None:
    values = {"seed": 1, "data": {}, "model": {"family": "conv_vae", "latent_dim": 256}, "trainer": {}}
    model = from_dict(values).model
    assert isinstance(model, ConvVaeConfig)
    assert (model.latent_dim, model.latent_shape) == (256, None)
    assert build(model, (1, 8, 8)).latent_shape == (256,)


def test_a_shape_read_again_is_the_same_configuration() -> None:
    values = {"seed": 1, "data": {}, "model": {"family": "conv_vae", "latent_shape": [4, 7, 7]}, "trainer": {}}
    config = from_dict(values)
    assert from_dict(config.to_dict()) == config
    assert "latent_shape:\n  - 4\n  - 7\n  - 7\n" in config.to_yaml()
