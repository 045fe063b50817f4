"""Distances between generated and real images: FID, KID, precision and recall."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

NEIGHBOURS = 3
KERNEL_SUBSETS = 100
KERNEL_SUBSET_SIZE = 1000
MANIFOLD_ROWS = 10_000
_DISTANCE_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Four numbers about one set of generated images."""

    fid: float
    """Frechet distance, squared units of the features; 0 for equal means and covariances."""
    kid: float
    """Squared maximum mean discrepancy under a cubic kernel; unbiased, so it can fall below 0."""
    precision: float
    """Share of the generated images that lie where real ones do."""
    recall: float
    """Share of the real images that lie where generated ones do."""

    @classmethod
    def between(cls, real: Tensor, generated: Tensor, seed: int) -> Self:
        """Compare features float32 [m, d] of real images with features [n, d] of generated ones.

        FID and KID take all rows; precision and recall at most the first 10,000 of each.
        """
        precision, recall = precision_and_recall(real[:MANIFOLD_ROWS], generated[:MANIFOLD_ROWS])
        return cls(
            fid=frechet_distance(real, generated),
            kid=kernel_distance(real, generated, seed),
            precision=precision,
            recall=recall,
        )


class _Features(nn.Module):
    """An extractor for features that are extracted already."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of the rows' means and covariances.

    Heusel et al. 2017 (arXiv:1706.08500), equation 6. Both are [n, d] with at least two rows. Few
    rows bias it upwards: compare at the same n.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # half a second of imports; exports may need none

    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return float(metric.compute())


def kernel_distance(real: Tensor, generated: Tensor, seed: int) -> float:
    """The mean over 100 pairs of subsets, drawn with `seed`, of the unbiased squared MMD (Binkowski et al. 2018).

    The kernel is (x.y / d + 1)^3 (arXiv:1801.01401, section 4); a subset has 1,000 rows, or all where there are fewer.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KERNEL_SUBSET_SIZE, len(real), len(generated))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings(
            "ignore", message="Metric `Kernel Inception Distance` will save all", category=UserWarning
        )
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(feature=_Features(real.shape[1]), subsets=KERNEL_SUBSETS, subset_size=size)
        metric.update(real.double(), real=True)
        metric.update(generated.double(), real=False)
        return float(metric.compute()[0])


def precision_and_recall(real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Shares of each set inside of the other's manifold (Kynkaanniemi et al. 2019, arXiv:1904.06991, equation 1).

    A set's manifold is the union of the balls around its rows that reach to the row's third nearest neighbour in the
    set. Both are [n, d] with more than three rows.
    """
    return _covered(generated, real, neighbours), _covered(real, generated, neighbours)


def _covered(rows: Tensor, manifold: Tensor, neighbours: int) -> float:
    """The share of `rows` within the manifold of the others."""
    # In float32, the distances of near neighbours would drown in the rounding of the matrix product they come from.
    rows, manifold = rows.double(), manifold.double()
    radii = torch.cat(
        [
            # The nearest row of all is the row itself.
            torch.cdist(part, manifold).kthvalue(neighbours + 1, dim=1).values
            for part in torch.split(manifold, _DISTANCE_ROWS)
        ]
    )
    inside = [(torch.cdist(part, manifold) <= radii).any(dim=1) for part in torch.split(rows, _DISTANCE_ROWS)]
    return torch.cat(inside).double().mean().item()
