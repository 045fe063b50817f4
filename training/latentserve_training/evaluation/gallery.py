"""The pictures of an evaluation: samples, reconstructions, latent walks and neighbours."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from latentserve_training.evaluation.bound import Elbo
from latentserve_training.evaluation.decoding import decode
from latentserve_training.evaluation.neighbours import Neighbours
from latentserve_training.image_grid import grid, write_png
from latentserve_training.models import GenerativeModel, Vae

_IMAGES = 64
RECONSTRUCTED = 32
_COLUMNS = 8
_PLANE_SIDE = 15
_PATHS = 8
_PATH_STEPS = 10
_TRAVERSED = 10
_TRAVERSAL_STEPS = 11
_TRAVERSAL_REACH = 3.0
_NEIGHBOURS = 7


def draw_samples(samples: Tensor, path: Path) -> None:
    """The first 64 images uint8, eight to a row."""
    write_png(grid(samples[:_IMAGES].numpy(), _COLUMNS), path)


def draw_reconstructions(originals: Tensor, reconstructions: Tensor, path: Path) -> None:
    """The first 32 images uint8, each beside what becomes of it."""
    pairs = torch.stack((originals[:RECONSTRUCTED], reconstructions[:RECONSTRUCTED]), dim=1).flatten(0, 1)
    write_png(grid(pairs.numpy(), _COLUMNS), path)


def draw_interpolations(model: GenerativeModel, ends: Tensor, path: Path) -> None:
    """A row for each of eight pairs of successive latents [n, latent_dim]: ten steps from the one to the other.

    A VAE's steps are evenly spaced on the line. A GAN's are on the great circle: all its latents in training lay about
    as far from the origin, and the middle of a line lies nearer. A conditional model draws one label a row.
    """
    pairs = min(_PATHS, len(ends) // 2)
    starts, stops = ends[0 : 2 * pairs : 2], ends[1 : 2 * pairs : 2]
    path_of = _line if isinstance(model, Vae) else _great_circle
    latents = torch.stack(
        [path_of(starts, stops, step) for step in torch.linspace(0, 1, _PATH_STEPS).tolist()], dim=1
    ).flatten(0, 1)
    labels = model.every_label(pairs)
    asked = None if labels is None else labels.repeat_interleave(_PATH_STEPS)
    write_png(grid(decode(model, latents, asked, "interpolations").numpy(), _PATH_STEPS), path)


def _line(starts: Tensor, stops: Tensor, share: float) -> Tensor:
    return torch.lerp(starts, stops, share)


def _great_circle(starts: Tensor, stops: Tensor, share: float) -> Tensor:
    """White 2016 (arXiv:1609.04468), section 2.1."""
    cosine = torch.nn.functional.cosine_similarity(starts, stops, dim=1).clamp(-1, 1)
    angle = cosine.acos().clamp(min=1e-4).unsqueeze(1)
    return (((1 - share) * angle).sin() * starts + (share * angle).sin() * stops) / angle.sin()


def draw_plane(model: Vae, path: Path) -> None:
    """The plane of two latents, even in probability; of a conditional model that of label 0."""
    latents = latent_plane(_PLANE_SIDE)
    labels = torch.zeros(len(latents), dtype=torch.int64) if model.label_count else None
    write_png(grid(decode(model, latents, labels, "plane").numpy(), _PLANE_SIDE, gap=0), path)


def latent_plane(side: int) -> Tensor:
    """Latents float32 [side * side, 2] that cover the prior's plane evenly in probability, row by row from the top."""
    quantiles = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    vertical, horizontal = torch.meshgrid(quantiles.flip(0), quantiles, indexing="ij")
    return torch.stack((horizontal.flatten(), vertical.flatten()), dim=1)


def draw_traversals(model: Vae, terms: Elbo, labels: Tensor | None, path: Path) -> None:
    """A row for each of the ten latents with the most KL: the first image's mean, that latent moved from -3 to 3."""
    latents = terms.kl.mean(0).topk(min(_TRAVERSED, model.latent_dim)).indices
    rows = terms.posterior.mean[0].repeat(len(latents), _TRAVERSAL_STEPS, 1)
    steps = torch.linspace(-_TRAVERSAL_REACH, _TRAVERSAL_REACH, _TRAVERSAL_STEPS)
    for row, latent in enumerate(latents.tolist()):
        rows[row, :, latent] = steps
    points = rows.flatten(0, 1)
    asked = None if labels is None else labels[:1].expand(len(points))
    write_png(grid(decode(model, points, asked, "traversals").numpy(), _TRAVERSAL_STEPS), path)


def draw_neighbours(samples: Tensor, training: Tensor, path: Path) -> None:
    """A row for each of eight samples uint8: the sample, then the seven training images nearest to it."""
    shown = samples[:_COLUMNS]
    nearest = Neighbours.of(shown, training, min(_NEIGHBOURS, len(training))).rows
    rows = torch.cat((shown.unsqueeze(1), training[nearest]), dim=1)
    write_png(grid(rows.flatten(0, 1).numpy(), rows.shape[1]), path)
