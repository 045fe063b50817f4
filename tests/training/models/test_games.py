"""The games of the GANs: losses and penalties against closed forms, bounds, and whose turn it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from latentserve_training.errors import CollapsedError, ConfigError
from latentserve_training.models import Batch, CganConfig, DcganConfig, Gan, MlpGanConfig, WganGpConfig, build
from latentserve_training.models.game import Game
from latentserve_training.models.gan import GanConfig
from latentserve_training.models.losses import (
    critic_loss,
    hinge_discriminator_loss,
    r1_penalty,
    score_loss,
    slope_penalty,
)

SHAPE = (1, 8, 8)


class Linear(nn.Module):
    """D(x) = slope * (sum of pixels), whose gradient is `slope` at every pixel."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, images: Tensor) -> Tensor:
        return self.slope * images.flatten(1).sum(1, keepdim=True)


class Dot(nn.Module):
    """One image for every latent: all pixels of one shade."""

    def __init__(self, shade: float) -> None:
        super().__init__()
        self.shade = nn.Parameter(torch.tensor(shade))

    def forward(self, latents: Tensor) -> Tensor:
        return self.shade.expand(len(latents), *SHAPE)


def linear_gan(slope: float, game: Game) -> Gan:
    return Gan(image_shape=SHAPE, generator=Dot(0.25), discriminator=Linear(slope), config=GanConfig(game=game))


def losses(gan: Gan, step: int = 0) -> tuple[float, dict[str, float]]:
    """The discriminator's on white images."""
    loss, logged = gan.phases()[0].loss(Batch(images=torch.ones(4, *SHAPE), step=step))
    return loss.item(), {name: value.item() for name, value in logged.items()}


def test_the_hinge_rewards_no_score_beyond_one() -> None:
    real, fake = torch.tensor([[3.0], [0.5]]), torch.tensor([[-2.0], [0.25]])
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(0.5 / 2 + 1.25 / 2)
    assert score_loss(fake).item() == pytest.approx(1.75 / 2)


def test_a_critic_s_loss_is_minus_the_distance_it_sees() -> None:
    assert critic_loss(torch.tensor([[3.0], [1.0]]), torch.tensor([[-1.0], [0.0]])).item() == pytest.approx(-2.5)


@given(st.floats(-2.0, 2.0).filter(lambda slope: abs(slope) > 0.01))
def test_the_penalties_of_a_linear_critic(slope: float) -> None:
    """Its gradient is the slope at each of 64 pixels, so its length is 8 |slope|."""
    critic, images = Linear(slope), torch.rand(5, *SHAPE, requires_grad=True)
    slopes = slope_penalty(critic(images), images)
    assert slopes.item() == pytest.approx((8 * abs(slope) - 1) ** 2, rel=1e-4, abs=1e-5)
    (pull,) = torch.autograd.grad(slopes, critic.slope)
    assert pull.item() == pytest.approx(2 * (8 * abs(slope) - 1) * math.copysign(8, slope), rel=1e-3, abs=1e-3)
    r1 = r1_penalty(critic(images), images)
    assert r1.item() == pytest.approx(0.5 * 64 * slope**2, rel=1e-4)
    (pull,) = torch.autograd.grad(r1, critic.slope)
    assert pull.item() == pytest.approx(64 * slope, rel=1e-4)


def test_a_critic_without_a_slope_is_pulled_nowhere() -> None:
    """Its length has no derivative there; a network whose last rectifiers are all shut must not end the run."""
    critic, images = Linear(0.0), torch.rand(5, *SHAPE, requires_grad=True)
    slopes = slope_penalty(critic(images), images)
    assert slopes.item() == pytest.approx(1.0)
    (pull,) = torch.autograd.grad(slopes, critic.slope)
    assert pull.item() == 0.0


def test_the_penalties_are_each_image_s_own() -> None:
    """D(x) = |x|^2 / 2 has the gradient x: a mean over images of a function of each one's length."""
    images = torch.stack([torch.full(SHAPE, 0.5), torch.full(SHAPE, 0.25)]).requires_grad_()
    scores = 0.5 * images.square().flatten(1).sum(1, keepdim=True)
    assert slope_penalty(scores, images).item() == pytest.approx((3**2 + 1**2) / 2)
    assert r1_penalty(scores, images).item() == pytest.approx(0.5 * (16 + 4) / 2)


def test_the_slope_is_taken_between_real_and_drawn_images() -> None:
    seen: list[Tensor] = []

    class Watched(Linear):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach())
            return super().forward(images)

    game = Game(loss="wasserstein", slope_penalty=10.0)
    gan = Gan(image_shape=SHAPE, generator=Dot(0.25), discriminator=Watched(1.0), config=GanConfig(game=game))
    losses(gan)
    real, fake, between = seen
    assert (real.min().item(), fake.max().item()) == (1.0, 0.25)
    shades = between.flatten(1)
    assert torch.equal(shades.min(1).values, shades.max(1).values)
    assert ((shades > 0.25) & (shades < 1.0)).all()
    assert len(shades[:, 0].unique()) == 4  # type: ignore[no-untyped-call]


def test_the_critic_descends_its_distance_and_ten_times_its_slope_penalty() -> None:
    loss, logged = losses(linear_gan(0.5, Game(loss="wasserstein", slope_penalty=10.0)))
    assert logged["discriminator_loss"] == pytest.approx(0.5 * 64 * (0.25 - 1))
    assert logged["slope_penalty"] == pytest.approx((4 - 1) ** 2, rel=1e-4)
    assert loss == pytest.approx(logged["discriminator_loss"] + 10 * 9, rel=1e-4)


def test_a_lazy_r1_penalty_weighs_as_much_as_a_constant_one() -> None:
    constant, lazy = Game(r1=2.0), Game(r1=2.0, r1_every=4)
    bare, _ = losses(linear_gan(0.5, Game()))
    always = [losses(linear_gan(0.5, constant), step)[0] - bare for step in range(8)]
    sometimes = [losses(linear_gan(0.5, lazy), step)[0] - bare for step in range(8)]
    assert always == pytest.approx([2 * 0.5 * 64 * 0.25] * 8)
    assert sometimes == pytest.approx([64.0, 0, 0, 0] * 2)
    assert "r1_penalty" not in losses(linear_gan(0.5, lazy), 1)[1]


def test_the_generator_may_take_steps_of_its_own_size() -> None:
    rates = {None: (0.5, 0.5), 0.25: (0.5, 0.25)}
    for rate, both in rates.items():
        gan = build(MlpGanConfig(learning_rate=0.5, generator_learning_rate=rate), SHAPE)
        assert tuple(phase.optimizer.param_groups[0]["lr"] for phase in gan.phases()) == both


@pytest.mark.parametrize("config", [DcganConfig, CganConfig, WganGpConfig])
def test_spectral_normalisation_bounds_how_fast_a_score_can_change(
    config: type[DcganConfig | CganConfig | WganGpConfig],
) -> None:
    """Every layer stretches by 1 at most (a strided 4x4 convolution by 4, seen as a map of images), inputs by 2."""
    torch.manual_seed(0)
    gan = build(config(width=8, discriminator_norm="spectral"), SHAPE, 2)
    assert isinstance(gan, Gan)
    images, labels = torch.rand(16, *SHAPE), torch.zeros(16, dtype=torch.int64)
    labelled = (labels,) if gan.label_count else ()
    for _ in range(30):  # power iterations, one a pass
        gan.discriminator(images, *labelled)
    for module in gan.discriminator.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)
    plain = build(config(width=8, discriminator_norm="none"), SHAPE, 2)
    assert not any("parametrizations" in name for name in plain.state_dict())


@pytest.mark.parametrize("config", [MlpGanConfig(), DcganConfig(), CganConfig(), WganGpConfig()])
def test_every_gan_can_collapse(config: MlpGanConfig | DcganConfig | CganConfig | WganGpConfig) -> None:
    gan = build(config, SHAPE, 10)
    unit = "" if config.game.loss == "wasserstein" else "_nats"
    fine = {f"discriminator_loss{unit}": 0.5, "diversity": 0.5}
    steps = config.collapse_after_steps
    assert gan.diagnose(fine, steps) == []
    with pytest.raises(CollapsedError) as uniform:
        gan.diagnose(fine | {"diversity": 0.1}, steps)
    assert str(uniform.value) == (
        f"collapsed at step {steps}: the samples' variance is 0.1 of the data's (limit 0.2), so the generator draws "
        "much the same image from every latent"
    )
    won = fine | {f"discriminator_loss{unit}": 0.0}
    if config.game.loss == "wasserstein":
        assert gan.diagnose(won, steps) == []
        return
    with pytest.raises(CollapsedError) as lost:
        gan.diagnose(won, steps)
    assert str(lost.value) == (
        f"collapsed at step {steps}: the discriminator's loss averaged 0 nats over an epoch (limit 0.001), so the "
        "generator has nothing left to learn from"
    )


def test_a_conditional_generator_that_draws_one_image_a_label_is_not_diverse() -> None:
    class Stripes(nn.Module):
        """A row of white for the label, whatever the latent; the first label also flickers."""

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            rows = torch.arange(8).view(1, 1, 8, 1) == labels.view(-1, 1, 1, 1)
            flicker = latents[:, :1, None, None] * (labels == 0).view(-1, 1, 1, 1)
            return rows.float().expand(-1, 1, 8, 8) + flicker

    gan = Gan(image_shape=SHAPE, generator=Stripes(), discriminator=Linear(1.0), config=GanConfig(), label_count=2)
    labels = torch.arange(100) % 2
    images = torch.randint(0, 256, (100, *SHAPE), dtype=torch.uint8)
    assert gan.validate(images, torch.Generator().manual_seed(0)).results["diversity"] > 0.2
    assert gan.validate(images, torch.Generator().manual_seed(0), labels).results["diversity"] == 0.0


def test_the_diversity_within_a_label_needs_no_few_labels() -> None:
    class Noise(nn.Module):
        """One shade an image, whatever the label."""

        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            return latents[:, :1, None, None].sigmoid().expand(-1, *SHAPE)

    count = 600
    gan = Gan(image_shape=SHAPE, generator=Noise(), discriminator=Linear(1.0), config=GanConfig(), label_count=count)
    images = torch.randint(0, 256, (2 * count, *SHAPE), dtype=torch.uint8)
    diversity = gan.validate(images, torch.Generator().manual_seed(0), torch.arange(2 * count) % count).results[
        "diversity"
    ]
    assert 0 <= diversity < 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: Game(slope_penalty=-1.0), "model.game.slope_penalty is -1.0; it must be finite and not negative"),
        (lambda: Game(r1=math.inf), "model.game.r1 is inf; it must be finite and not negative"),
        (lambda: Game(r1_every=0), "model.game.r1_every is 0; it must be at least 1"),
        (lambda: Game(discriminator_steps=0), "model.game.discriminator_steps is 0; it must be at least 1"),
        (
            lambda: DcganConfig(game=Game(r1=1.0)),
            "model.discriminator_norm is batch, under which an image's score depends on the others of its batch, so "
            "that model.game.slope_penalty and model.game.r1 must be 0; or set it to spectral or none",
        ),
        (
            lambda: WganGpConfig(game=Game(loss="hinge", slope_penalty=10.0)),
            "model.game has loss hinge and slope_penalty 10.0; wgan_gp is the game of loss wasserstein with a positive "
            "slope_penalty, and dcgan those of others",
        ),
    ],
)
def test_a_game_without_sense_is_refused(config: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config()
    assert str(refusal.value) == message


def test_a_penalty_without_batch_normalisation_is_taken() -> None:
    assert DcganConfig(game=Game(r1=1.0), discriminator_norm="none").game.penalises
