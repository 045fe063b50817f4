"""What a VAE can descend: the importance-weighted bound, the KL term's weight and its free bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from latentserve_training.errors import ConfigError
from latentserve_training.evaluation.bound import elbo
from latentserve_training.models import Batch, MlpVaeConfig, Vae, build
from latentserve_training.models.losses import (
    bernoulli_nll,
    free_bits_kl,
    gaussian_kl,
    importance_bound,
    log_prior_ratio,
)
from latentserve_training.models.objective import Objective
from latentserve_training.models.random_draws import reparameterize

SHAPE = (1, 4, 4)


def small(**objective: float) -> Vae:
    torch.manual_seed(0)
    model = build(MlpVaeConfig(latent_dim=3, wide=16, narrow=8, objective=Objective(**objective)), SHAPE)  # type: ignore[arg-type]
    assert isinstance(model, Vae)
    return model


def images(count: int) -> Tensor:
    return (torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1)) > 0.5).float()


def descended(model: Vae, batch: Batch) -> tuple[float, dict[str, float]]:
    """The loss and what is logged, with the noise of seed 2."""
    torch.manual_seed(2)
    (phase,) = model.phases()
    loss, logged = phase.loss(batch)
    return loss.item(), {name: value.item() for name, value in logged.items()}


@given(st.integers(0, 2**31))
def test_the_ratio_of_prior_to_posterior_is_that_of_torch_distributions(seed: int) -> None:
    mean, log_variance, noise = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(seed))
    latents = mean + (log_variance / 2).exp() * noise
    posterior = Normal(mean, (log_variance / 2).exp())
    expected = (Normal(0.0, 1.0).log_prob(latents) - posterior.log_prob(latents)).sum(1)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_prior_ratio(latents, mean, log_variance), expected, rtol=1e-4, atol=1e-4)


def test_its_expectation_is_minus_the_kl() -> None:
    mean, log_variance = torch.tensor([[0.7, -1.0]]), torch.tensor([[-0.5, 0.3]])
    latents = reparameterize(mean.expand(200_000, 2), log_variance.expand(200_000, 2), torch.Generator().manual_seed(0))
    estimate = -log_prior_ratio(latents, mean, log_variance).mean()
    torch.testing.assert_close(estimate, gaussian_kl(mean, log_variance).sum(), rtol=0.01, atol=0.0)


@given(st.lists(st.floats(-500, 0), min_size=1, max_size=8))
def test_the_importance_bound_is_the_log_of_a_mean(log_weights: list[float]) -> None:
    weights = np.array(log_weights, dtype=np.float64)
    expected = -(weights.max() + np.log(np.exp(weights - weights.max()).mean()))
    found = importance_bound(torch.tensor([log_weights], dtype=torch.float64))
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_one_draw_s_importance_bound_is_the_negative_elbo_in_expectation() -> None:
    model, rows = small(), images(1).expand(100_000, -1, -1, -1)
    with torch.no_grad():
        posterior = model.encode(rows)
        latents = reparameterize(*posterior, generator=torch.Generator().manual_seed(0))
        nll = bernoulli_nll(model.decode_logits(latents), rows)
        bound = importance_bound((log_prior_ratio(latents, *posterior) - nll)[:, None]).mean()
        negative_elbo = elbo(model, rows, None, torch.Generator().manual_seed(0)).negative.mean()
    assert bound.item() == pytest.approx(negative_elbo.item(), abs=0.02)


def test_the_gradient_of_the_importance_bound_weighs_each_draw_by_its_normalised_weight() -> None:
    log_weights = torch.tensor([[-80.0, -81.0, -79.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(importance_bound(log_weights).sum(), log_weights)
    weights = np.exp(np.array([-80.0, -81.0, -79.5]) + 80)
    np.testing.assert_allclose(gradient[0].numpy(), -weights / weights.sum(), rtol=1e-5)


def test_many_draws_descend_the_bound_of_draws_that_belong_to_their_image() -> None:
    """Recomputed image by image and draw by draw, with the same noise."""
    model, batch = small(draws=4), Batch(images=images(5))
    loss, logged = descended(model, batch)
    torch.manual_seed(2)
    x = torch.bernoulli(batch.images)
    noise = torch.randn(20, 3)
    bounds = []
    with torch.no_grad():
        for row in range(5):
            mean, log_variance = model.encode(x[row : row + 1])
            weights = []
            for draw in range(4):
                z = mean + (log_variance / 2).exp() * noise[4 * row + draw]
                log_q = Normal(mean, (log_variance / 2).exp()).log_prob(z).sum()  # type: ignore[no-untyped-call]
                log_p = Normal(0.0, 1.0).log_prob(z).sum()  # type: ignore[no-untyped-call]
                weights.append((log_p - log_q - bernoulli_nll(model.decode_logits(z), x[row : row + 1])[0]).item())
            bounds.append(-np.log(np.mean(np.exp(weights))))
    assert loss == pytest.approx(np.mean(bounds), rel=1e-4)
    assert logged["importance_bound_nats"] == loss
    assert loss < logged["negative_elbo_nats"]


def test_the_kl_weight_grows_in_proportion_and_then_stays() -> None:
    objective = Objective(beta=4.0, warm_up_epochs=8)
    assert [objective.weight(epoch) for epoch in (0.0, 2.0, 4.0, 8.0, 50.0)] == [0.0, 1.0, 2.0, 4.0, 4.0]
    assert Objective(beta=0.5).weight(0.0) == 0.5


@pytest.mark.parametrize(("beta", "epoch", "weight"), [(1.0, 0.0, 1.0), (4.0, 0.0, 4.0), (4.0, 1.0, 2.0)])
def test_the_weight_is_on_the_kl_term_alone_and_the_log_tells_the_plain_elbo(
    beta: float, epoch: float, weight: float
) -> None:
    model = small(beta=beta, warm_up_epochs=2.0 if epoch else 0.0)
    loss, logged = descended(model, Batch(images=images(16), epoch=epoch))
    assert loss == pytest.approx(logged["reconstruction_nats"] + weight * logged["kl_nats"], rel=1e-5)
    assert logged["negative_elbo_nats"] == pytest.approx(logged["reconstruction_nats"] + logged["kl_nats"], rel=1e-5)


def test_free_bits_stop_pressing_a_latent_below_its_allowance() -> None:
    mean = torch.tensor([[0.1, 2.0], [-0.1, 1.0]], requires_grad=True)
    terms = gaussian_kl(mean, torch.zeros(2, 2))
    loss = free_bits_kl(terms, 0.25)
    # Averaged over the batch, the latents cost 0.005 and 1.25 nats.
    assert loss.item() == pytest.approx(0.25 + 1.25)
    (gradient,) = torch.autograd.grad(loss, mean)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 1.0], [0.0, 0.5]]))


def test_free_bits_change_what_is_descended_and_not_what_is_reported() -> None:
    batch = Batch(images=images(16))
    free, logged = descended(small(free_bits=2.0), batch)
    plain, same = descended(small(), batch)
    assert logged == same
    # No latent of fresh weights costs 2 nats: three latents at their allowance.
    assert free == pytest.approx(logged["reconstruction_nats"] + 6.0, rel=1e-5)
    assert plain == pytest.approx(logged["negative_elbo_nats"], rel=1e-5)


def test_validation_tells_the_plain_elbo_whatever_is_descended() -> None:
    pixels = (255 * images(300)).to(torch.uint8)
    models = (small(), small(beta=8.0), small(free_bits=1.0), small(draws=5), small(warm_up_epochs=3.0))
    first, *others = [model.validate(pixels, torch.Generator().manual_seed(0)).results for model in models]
    assert all({name: other[name] for name in first} == first for other in others)
    assert first["negative_elbo_nats"] == pytest.approx(first["reconstruction_nats"] + first["kl_nats"])


def test_the_best_epoch_is_chosen_by_what_is_descended() -> None:
    pixels = (255 * images(300)).to(torch.uint8)

    def chosen_by(**objective: Any) -> tuple[float, dict[str, float]]:
        model = small(**objective)
        results = model.validate(pixels, torch.Generator().manual_seed(0)).results
        assert model.selection is not None
        return results[model.selection], results

    plain, results = chosen_by(warm_up_epochs=3.0, free_bits=1.0)
    assert plain == results["negative_elbo_nats"]
    weighted, results = chosen_by(beta=8.0)
    assert weighted == pytest.approx(results["reconstruction_nats"] + 8 * results["kl_nats"])
    bounds = [chosen_by(draws=draws, warm_up_epochs=3.0)[0] for draws in (2, 50)]
    assert bounds[1] < bounds[0] < results["negative_elbo_nats"]


def test_a_bound_in_warm_up_is_logged_as_the_bound_that_it_is() -> None:
    batch = Batch(images=images(16), epoch=0.5)
    loss, logged = descended(small(draws=5, warm_up_epochs=1.0), batch)
    bound, _ = descended(small(draws=5), batch)
    assert logged["importance_bound_nats"] == pytest.approx(bound, rel=1e-6)
    assert loss != pytest.approx(bound, rel=1e-3)


def test_a_weighted_bound_is_refused() -> None:
    with pytest.raises(ConfigError, match="only with a beta of 1; set one of them to its default"):
        Objective(draws=5, beta=0.5)


@pytest.mark.parametrize(
    ("latents", "active", "collapsed"), [(2, 0, True), (2, 1, False), (50, 4, True), (50, 5, False)]
)
def test_a_posterior_that_hardly_a_latent_is_used_of_has_collapsed(latents: int, active: int, collapsed: bool) -> None:
    said = build(MlpVaeConfig(latent_dim=latents), SHAPE).diagnose({"active_units": active}, 7)
    assert [line.split(";")[0] for line in said] == (
        [f"posterior collapse at step 7: {active} of {latents} latents are active"] if collapsed else []
    )


def test_more_latents_than_the_images_need_are_no_collapse() -> None:
    assert build(MlpVaeConfig(latent_dim=256), SHAPE).diagnose({"active_units": 24.0}, 7) == []
    assert build(MlpVaeConfig(latent_dim=256), SHAPE).diagnose({"active_units": 9.0}, 7) != []
