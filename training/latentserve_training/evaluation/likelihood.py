"""The measurements of a VAE's likelihood: bounds in nats an image, and in bits a dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from latentserve_training.evaluation.bound import Elbo, elbo, importance_weighted_nll
from latentserve_training.evaluation.config import EvaluationConfig
from latentserve_training.evaluation.measurements import subset
from latentserve_training.evaluation.report import Measurement, Section
from latentserve_training.models import Vae
from latentserve_training.models.bits import bits_per_dim, dequantize

_OBSERVED = {
    "bernoulli": "dynamically binarised (x ~ Bernoulli(pixel / 255)) once from seed {seed}",
    "gaussian": "as they are; a density over pixels from 0 to 1, so its nats may be negative",
    "discretized_logistic": "as they are; a probability of their 256 levels",
}
_BOUNDS = ("negative_elbo", "importance_weighted_nll")


def _mean(values: Tensor, unit: str, seed: int | None) -> Measurement:
    """The mean of [n] values, with its standard error."""
    values = values.double()
    error = values.std().item() / len(values) ** 0.5 if len(values) > 1 else None
    return Measurement(value=values.mean().item(), unit=unit, count=len(values), seed=seed, standard_error=error)


def _mean_of_all(negative: Tensor, gap: Tensor, nll: Tensor, unit: str, seed: int | None) -> Measurement:
    """The mean bound of all [n] images, estimated from their -ELBO and from the gap [m] and bound `nll` [m] of some.

    Images differ much more in how well they are explained than in the gap, so that the mean of `nll` alone would
    mostly reflect which images were chosen. This is the difference estimator of double sampling (Cochran, Sampling
    Techniques, 1977, chapter 12); its variance is Var(nll) / n + Var(gap) (1 / m - 1 / n).
    """
    found = (negative.double().mean() - gap.double().mean()).item()
    count, seen = len(negative), len(gap)
    error = None
    if seen > 1:
        error = (nll.double().var() / count + gap.double().var() * (1 / seen - 1 / count)).sqrt().item()
    return Measurement(value=found, unit=unit, count=count, seed=seed, standard_error=error)


def _bits(
    model: Vae, pixels: Tensor, labels: Tensor | None, measured: Mapping[str, Measurement], seed: int
) -> tuple[dict[str, Measurement], str]:
    """The bounds of stored images in bits a dimension, and how they came about; nothing for binarised images.

    `measured` are the bounds in nats; those of a density are measured again, on dequantised images.
    """
    width, dims = model.likelihood.level_width, pixels[0].numel()
    if width is None:
        return {}, ""
    said = f" Bits a dimension: nats divided by ln 2 and by the {dims:,} values of an image"
    if width == 1:
        bounds = {name: measured[f"{name}_nats"] for name in _BOUNDS if f"{name}_nats" in measured}
    else:
        generator = torch.Generator().manual_seed(seed)
        noisy = elbo(model, dequantize(pixels, width, generator), labels, generator)
        bounds = {"negative_elbo": _mean(noisy.negative, "", seed)}
        said += (
            ", of images with uniform noise one level wide (Theis et al. 2016); added is the level's width, "
            f"log2({1 / width:.0f}) = {bits_per_dim(0, dims, width):.3f}"
        )
    return {f"{name}_bits_per_dim": _in_bits(one, dims, width) for name, one in bounds.items()}, f"{said}."


def _in_bits(nats: Measurement, dims: int, width: float) -> Measurement:
    error = None if nats.standard_error is None else bits_per_dim(nats.standard_error, dims)
    return replace(nats, value=bits_per_dim(nats.value, dims, width), unit="bits/dim", standard_error=error)


def likelihood(model: Vae, pixels: Tensor, labels: Tensor | None, terms: Elbo, config: EvaluationConfig) -> Section:
    """-ELBO and its terms on all test images, and the importance-weighted bound on some of them.

    `pixels` are float32 [n, channels, height, width] as the likelihood sees them, `labels` int64 [n] for a conditional
    model; `terms` is their ELBO.
    """
    nats, seed, count = "nats/image", config.seed, len(pixels)
    measurements = {
        "negative_elbo_nats": _mean(terms.negative, nats, seed),
        "reconstruction_nats": _mean(terms.reconstruction, nats, seed),
        "kl_nats": _mean(terms.kl.double().sum(1), nats, seed),
        "active_units": Measurement(value=float(terms.active.sum()), unit="latents", count=count, seed=seed),
    }
    how = _OBSERVED[model.likelihood.name].format(seed=seed)
    what = "-log p(x), given the label," if model.label_count else "-log p(x)"
    protocol = (
        f"Upper bounds on {what} of test images, {how}. -ELBO: one draw of z an image, the KL term exact. A unit is "
        "active when its posterior mean's variance over the images is above 0.01. ± is the standard error over images."
    )
    if config.nll_draws:
        rows = subset(config.nll_images, count, seed)
        asked = None if labels is None else labels[rows]
        generator = torch.Generator().manual_seed(seed)
        nll = importance_weighted_nll(model, pixels[rows], asked, config.nll_draws, generator)
        gap = terms.negative[rows] - nll
        measurements |= {
            "importance_weighted_nll_nats": _mean_of_all(terms.negative, gap, nll, nats, seed),
            "importance_gap_nats": _mean(gap, nats, seed),
            "importance_draws": Measurement(value=config.nll_draws, unit="draws/image", count=len(rows), seed=seed),
        }
        protocol += (
            f" Importance-weighted bound (Burda et al. 2015): K = {config.nll_draws:,} draws an image; the gap is "
            f"-ELBO less the bound, on {len(rows):,} images, and the bound of all is their -ELBO less that gap."
        )
    bits, said = _bits(model, pixels, labels, measurements, seed)
    measurements |= bits
    protocol += said
    kl = terms.kl.double().mean(0).tolist()
    return Section(title="Likelihood", protocol=protocol, measurements=measurements, series={"kl_nats_by_latent": kl})
