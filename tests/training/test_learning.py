"""Every family learns, with every objective, likelihood and game: seconds of training, held to the numbers they reach.

A loss can be broken and still descend. So each run is held to several quantities, computed here by scipy and
scikit-learn from the trained networks alone, each within bounds that broken losses were seen to miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import expit, logit, logsumexp
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from latentserve_training import train
from latentserve_training.data import Split
from latentserve_training.fidelity import frechet_distance
from latentserve_training.models import Gan, Vae
from latentserve_training.models.likelihood import LikelihoodName
from latentserve_training.trained import Trained

Floats = NDArray[np.float64]
Bounds = tuple[float, float]
ANY = float("inf")

EVERY_RUN = "--data.name digits --trainer.device cpu --trainer.precision float32 --trainer.ema_decay 0.95"
VAE = "--trainer.batch_size 32 --trainer.epochs 12 --data.size"
DENSE_VAE = "mlp_vae --model.latent_dim 8 --model.wide 128 --model.narrow 64"
CONV_VAE = (
    "--model.narrow 8 --model.wide 16 --model.dense 64 --model.learning_rate 3e-3 --model.objective.warm_up_epochs 6"
)
GAN = "--data.size 8 --trainer.batch_size 64 --trainer.epochs"
DENSE_GAN = (
    "mlp_gan --model.latent_dim 16 --model.generator_width 64 --model.discriminator_width 64 --model.dropout 0 "
    "--model.learning_rate 2e-3"
)
CONV_GAN = "--model.width 8 --model.dense 64"
CRITIC = "--model.learning_rate 3e-3 --model.generator_learning_rate 3e-3 --model.game.discriminator_steps 2"

REPORTED: dict[str, Bounds] = {"error_of_the_report": (-1.5, 1.5)}
"""Validation reports what is computed here, to the noise of one draw an image."""


@dataclass(frozen=True)
class Run:
    """A family and its options, and within what its quantities must end."""

    options: str
    expected: dict[str, Bounds]


RUNS = {
    # Without latents, by the pixels' means alone, an image costs 66.1 nats. Without its KL term, -ELBO is above that.
    "mlp_vae": Run(
        f"{DENSE_VAE} {VAE} 16 --model.learning_rate 3e-3",
        {"negative_elbo": (45, 59), "gain": (7, ANY), "kl": (2.8, 7), "gap_to_the_bound": (0.2, 2.5), **REPORTED},
    ),
    # Twice the price of the latents: less than half of what mlp_vae spends on them, but not nothing.
    "beta": Run(
        f"{DENSE_VAE} {VAE} 16 --model.learning_rate 3e-3 --model.objective.beta 2",
        {"gain": (3, ANY), "kl": (0.8, 2.6), **REPORTED},
    ),
    # Every latent spends its allowance; in mlp_vae there is one that spends less than a tenth of it.
    "free_bits": Run(
        f"{DENSE_VAE} {VAE} 16 --model.learning_rate 3e-3 --model.objective.free_bits 0.5",
        {"gain": (5, ANY), "least_kl_of_a_latent": (0.35, 0.9), **REPORTED},
    ),
    # The bound falls by 4 nats under mlp_vae's, and posteriors may then be wider than the ELBO would let them.
    "draws": Run(
        f"{DENSE_VAE} {VAE} 16 --model.learning_rate 3e-3 --model.objective.draws 10",
        {"bound": (40, 50), "gap_to_the_bound": (3.5, 12), "kl": (2, 7), **REPORTED},
    ),
    # A density with a wrong scale learns a scale that is not the likeliest one for its own means.
    "gaussian": Run(
        f"{DENSE_VAE} {VAE} 12 --model.learning_rate 5e-3 --model.likelihood gaussian",
        {"gain": (40, ANY), "kl": (5, 16), "scale_to_the_best": (0.85, 1.3), **REPORTED},
    ),
    # Grey levels cost 262 nats without latents; digits are mostly black and white, the levels with half-open bins.
    "discretized_logistic": Run(
        f"{DENSE_VAE} {VAE} 12 --model.learning_rate 5e-3 --model.likelihood discretized_logistic",
        {"gain": (5, ANY), "kl": (1.8, 7), "scale_to_the_best": (0.85, 1.15), **REPORTED},
    ),
    "conv_vae": Run(
        f"conv_vae {CONV_VAE} {VAE} 12 --model.latent_dim 8",
        {"gain": (1.5, ANY), "kl": (0.8, 8), **REPORTED},
    ),
    # A small allowance keeps latents in use beside labels that say most. By chance, a tenth would show what was asked.
    "cvae": Run(
        f"cvae {CONV_VAE} {VAE} 12 --model.latent_dim 4 --model.likelihood gaussian --model.objective.free_bits 0.25",
        {"gain": (25, ANY), "kl": (0.5, 8), "scale_to_the_best": (0.8, 1.35), "label_seen": (0.9, 1), **REPORTED},
    ),
    # The mean image alone is at a distance of 1. Trained on one latent, a generator draws noise of all others.
    "mlp_gan": Run(f"{DENSE_GAN} {GAN} 25", {"distance": (0, 0.5), "diversity": (0.6, 1.2)}),
    # Scores beyond 1 earn nothing, so they stay there.
    "hinge": Run(
        f"{DENSE_GAN} {GAN} 25 --model.game.loss hinge",
        {"distance": (0, 0.55), "diversity": (0.6, 1.2), "score_real": (-2, 2), "slope_real": (1, 8)},
    ),
    # The penalty flattens a discriminator whose slope is 2 to 3 without it, in mlp_gan.
    "r1": Run(
        f"{DENSE_GAN} {GAN} 25 --model.game.r1 1",
        {"distance": (0, 0.35), "diversity": (0.6, 1.2), "slope_real": (0.03, 0.4)},
    ),
    "dcgan": Run(
        f"dcgan {CONV_GAN} {GAN} 15 --model.latent_dim 16 --model.learning_rate 1e-3 "
        "--model.generator_learning_rate 2e-3",
        {"distance": (0, 1.5), "diversity": (0.6, 1.4)},
    ),
    # Layers that stretch no more than their input keep the slope at 2; without, it is above 4.
    "spectral": Run(
        f"dcgan {CONV_GAN} {GAN} 15 --model.latent_dim 16 --model.learning_rate 2e-3 "
        "--model.generator_learning_rate 2e-3 --model.discriminator_norm spectral --model.game.loss hinge",
        {"distance": (0, 1.3), "diversity": (0.2, 1.2), "slope_real": (0.5, 3.2)},
    ),
    # The slope is 1 where it is penalised, on the lines between images and samples.
    "wgan_gp": Run(
        f"wgan_gp {CONV_GAN} {CRITIC} {GAN} 18 --model.latent_dim 16 --model.beta1 0.5",
        {"distance": (0, 0.75), "diversity": (0.5, 1.2), "slope_between": (0.7, 1.3)},
    ),
    # One image a label has a diversity of 0, labels that are not looked at show in a tenth of the samples.
    "cgan": Run(
        f"cgan {CONV_GAN} {CRITIC} {GAN} 18 --model.latent_dim 64 --model.label_dim 16 "
        "--model.discriminator_norm none --model.game.loss wasserstein --model.game.slope_penalty 10",
        {
            "distance": (0, 0.7),
            "label_seen": (0.3, 1),
            "diversity_of_a_label": (0.05, 0.7),
            "slope_between": (0.7, 1.3),
        },
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_where_its_losses_lead(name: str, tmp_path: Path) -> None:
    found = quantities(trained(name, 0, tmp_path / "run"))
    missed = {
        quantity: f"{found[quantity]:.3g} is not within {least:g} to {most:g}"
        for quantity, (least, most) in RUNS[name].expected.items()
        if not least <= found[quantity] <= most
    }
    assert not missed


def trained(name: str, seed: int, folder: Path) -> Trained:
    """By the command itself; the weights are those that would be served."""
    options = f"--model.family {RUNS[name].options} {EVERY_RUN} --seed {seed} --output"
    assert train.main([*options.split(), str(folder)]) == 0
    return Trained.load(folder)


def quantities(run: Trained) -> dict[str, float]:
    found = of_a_vae(run) if isinstance(run.model, Vae) else of_a_gan(run)
    return found | (of_labels(run) if run.model.label_count else {})


@dataclass(frozen=True)
class Explained:
    """Images, several times over, and what a VAE says of them at a number of draws of z."""

    x: Floats  # [n, pixels]
    logits: Floats  # [n, pixels], of the last draw
    scale: float
    kl: Floats  # [n, latent_dim]
    log_weights: Floats  # [draws, n], log p(x, z) / q(z|x)

    @classmethod
    @torch.no_grad()
    def by(cls, model: Vae, split: Split, *, times: int, draws: int) -> Explained:
        torch.manual_seed(0)
        images = torch.from_numpy(split.images).float() / 255
        observed = model.likelihood.observe(images.repeat(times, 1, 1, 1))
        labels = model.labels_of(split.labels)
        labels = None if labels is None else labels.repeat(times)
        x = observed.flatten(1).double().numpy()
        posterior = model.encode(observed, labels)
        mean, spread = posterior.mean.double().numpy(), (posterior.log_variance.double() / 2).exp().numpy()
        log_weights = []
        for noise in np.random.default_rng(0).standard_normal((draws, *mean.shape)):
            z = mean + spread * noise
            parameters = model.decode_parameters(torch.from_numpy(z).float(), labels)
            logits = parameters.logits.flatten(1).double().numpy()
            scale = 1.0 if parameters.log_scale is None else float(parameters.log_scale[0, 0, 0, 0].exp())
            ratio = stats.norm.logpdf(z) - stats.norm.logpdf(z, mean, spread)
            log_weights.append(log_likelihood(model.likelihood.name, x, logits, scale) + ratio.sum(1))
        kl = (spread**2 + mean**2 - 1) / 2 - np.log(spread)
        return cls(x, logits, scale, kl, np.array(log_weights))


def of_a_vae(run: Trained) -> dict[str, float]:
    """In nats an image, of held-out images."""
    assert isinstance(run.model, Vae)
    data, name = run.dataset(None), run.model.likelihood.name
    held_out = Explained.by(run.model, data.validation, times=2, draws=25)
    seen = Explained.by(run.model, data.train, times=1, draws=1)
    # A model without latents: every pixel's mean, and the scale that is best for it.
    constant = np.broadcast_to(logit(seen.x.mean(0).clip(1e-3, 1 - 1e-3)), seen.x.shape)
    scale = best_scale(name, seen.x, constant)
    constant_nll = -log_likelihood(name, held_out.x, constant[: len(held_out.x)], scale).mean()
    negative_elbo = -held_out.log_weights.mean()
    bound = (np.log(len(held_out.log_weights)) - logsumexp(held_out.log_weights, axis=0)).mean()
    reported = run.checkpoint.progress.results
    return {
        "negative_elbo": negative_elbo,
        "gain": constant_nll - negative_elbo,
        "kl": held_out.kl.sum(1).mean(),
        "least_kl_of_a_latent": held_out.kl.mean(0).min(),
        "gap_to_the_bound": negative_elbo - bound,
        "bound": bound,
        "error_of_the_report": reported["negative_elbo_nats"] - negative_elbo,
        "scale_to_the_best": seen.scale / best_scale(name, seen.x, seen.logits),
    }


def log_likelihood(name: LikelihoodName, x: Floats, logits: Floats, scale: float) -> Floats:
    """log p(x|z), float64 [n], of images [n, pixels]."""
    mean = expit(logits)
    match name:
        case "bernoulli":
            terms = -np.logaddexp(0, np.where(x == 1, -logits, logits))
        case "gaussian":
            terms = stats.norm.logpdf(x, mean, scale)
        case "discretized_logistic":
            upper, lower = np.where(x == 1, np.inf, x + 1 / 510), np.where(x == 0, -np.inf, x - 1 / 510)
            terms = np.log(np.diff(stats.logistic.cdf([lower, upper], mean, scale), axis=0)[0])
    return np.asarray(terms.sum(1))


def best_scale(name: LikelihoodName, x: Floats, logits: Floats) -> float:
    """The scale by which the images are likeliest, given their means; every tenth image will do."""
    if name == "bernoulli":
        return 1.0
    found = optimize.minimize_scalar(
        lambda log_scale: -log_likelihood(name, x[::10], logits[::10], np.exp(log_scale)).mean(), bounds=(-4, 1)
    )
    return float(np.exp(found.x))


def of_a_gan(run: Trained) -> dict[str, float]:
    """Of as many samples as there are training images; distances and variances as shares of the images' variance."""
    assert isinstance(run.model, Gan)
    images = torch.from_numpy(run.dataset(None).train.images).float() / 255
    samples = run.sample(len(images), 0)
    spread = variance(images)
    found = {
        "distance": frechet_distance(images.flatten(1), samples.flatten(1)) / spread,
        "distance_of_means": (images.mean(0) - samples.mean(0)).square().sum().item() / spread,
        "diversity": variance(samples) / spread,
    }
    run.model.load_state_dict(run.checkpoint.model)  # the discriminator that played, not its average
    share = torch.rand(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(0))
    labels = run.model.labels_of(run.dataset(None).train.labels)
    for where, points in (("real", images), ("between", torch.lerp(images, samples, share))):
        scores, slopes = judged(run.model, points, labels)
        found |= {f"score_{where}": scores, f"slope_{where}": slopes}
    return found


def judged(model: Gan, points: Tensor, labels: Tensor | None) -> tuple[float, float]:
    """The discriminator's mean score and mean slope at images."""
    points = points.clone().requires_grad_()
    scores = model.discriminator(points) if labels is None else model.discriminator(points, labels)
    (slopes,) = torch.autograd.grad(scores.sum(), points)
    return scores.mean().item(), slopes.flatten(1).norm(dim=1).mean().item()


def of_labels(run: Trained) -> dict[str, float]:
    """Whether samples show the label that was asked for, to a judge of real images, and vary within it."""
    split, count = run.dataset(None).train, 1000
    judge = LogisticRegression(C=0.1, max_iter=200).fit(split.images.reshape(len(split), -1) / 255, split.labels)
    samples, asked = run.sample(count, 0), run.model.every_label(count)
    images = torch.from_numpy(split.images).float() / 255
    shares = [variance(samples[asked == label]) / variance(images[split.labels == label]) for label in range(10)]
    return {"label_seen": judge.score(samples.flatten(1).numpy(), asked), "diversity_of_a_label": min(shares)}


def variance(images: Tensor) -> float:
    """Summed over pixels."""
    return images.var(0).sum().item()
