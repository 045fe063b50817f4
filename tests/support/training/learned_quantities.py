"""Numbers that scipy and scikit-learn compute from a trained model's networks alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import expit, logit, logsumexp
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from latentserve_training.data import Split
from latentserve_training.evaluation.fidelity import frechet_distance
from latentserve_training.models import Gan, Vae
from latentserve_training.models.likelihood import LikelihoodName
from latentserve_training.run.trained_model import TrainedModel

Floats = NDArray[np.float64]


def quantities(run: TrainedModel) -> dict[str, float]:
    """All that can be said of a model of its kind, by name."""
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


def of_a_vae(run: TrainedModel) -> dict[str, float]:
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


def of_a_gan(run: TrainedModel) -> dict[str, float]:
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


def of_labels(run: TrainedModel) -> dict[str, float]:
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
