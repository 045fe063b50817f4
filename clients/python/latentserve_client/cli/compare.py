"""The command `compare`: the same noise through two versions of a model."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latentserve.contract import MAX_INDEX
from latentserve_client._calls.fields import MAX_SEED
from latentserve_client.bulk import max_image_rows
from latentserve_client.cli.shared import Commands, Outcome, Progress, add_model, align, integer, model_ref, number
from latentserve_client.client import Client
from latentserve_client.errors import LatentServeError
from latentserve_client.models import Capability, ModelInfo, ModelRef
from latentserve_client.results import Samples, Served

BEYOND_THRESHOLD = 3
"""Exit code where the versions differ by more than the threshold."""

_CHUNK_ROWS = 256
"""Images compared at a time."""


def add_to(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("compare", help="run the same noise through two versions")
    add_model(parser)
    parser.add_argument("other", type=model_ref, metavar="OTHER", help="the version to compare with it")
    parser.add_argument("--count", type=integer(1, MAX_INDEX), default=1000, help="number of images; default 1000")
    parser.add_argument("--seed", type=integer(0, MAX_SEED), default=0, help="of the images; default 0")
    parser.add_argument(
        "--threshold",
        type=number(0, math.inf),
        metavar="X",
        help="exit with 3 where the mean absolute difference of pixel values is larger",
    )
    parser.set_defaults(run=compare)


class ComparisonError(LatentServeError):
    """Two versions that cannot be compared."""


@dataclass
class Difference:
    """The differences so far: absolute differences of pixel values, and the second version's ELBO less the first's.

    An image is broken where a pixel of either version, or the shift of its ELBO, is not finite.
    """

    images: int = 0
    broken: int = 0
    first_broken: int = 0
    sum_of_means: float = 0.0
    largest: float = 0.0
    largest_at: int = 0
    shifts: list[NDArray[np.float64]] = field(default_factory=list)

    def add(
        self,
        first: NDArray[np.float32],
        second: NDArray[np.float32],
        shifts: NDArray[np.float64] | None,
        index: int,
    ) -> None:
        """Add images of both versions, numbered from `index` on, and the shifts of their ELBOs, if there are any."""
        with np.errstate(invalid="ignore"):
            difference = np.abs(first.astype(np.float64) - second).reshape(len(first), -1)
        worst = difference.max(axis=1)
        finite = np.isfinite(worst) if shifts is None else np.isfinite(worst) & np.isfinite(shifts)
        if not finite.all() and not self.broken:
            self.first_broken = index + int(finite.argmin())
        self.images += len(first)
        self.broken += int((~finite).sum())
        self.sum_of_means += float(difference[finite].mean(axis=1).sum())
        if shifts is not None:
            self.shifts.append(shifts[finite])
        worst[~finite] = 0
        if worst.max() > self.largest:
            self.largest, self.largest_at = float(worst.max()), index + int(worst.argmax())

    @property
    def mean(self) -> float:
        """The mean absolute difference of pixel values, over the images that are not broken."""
        return self.sum_of_means / max(1, self.images - self.broken)


@dataclass
class Numerics:
    """The fingerprints of the bits that each version computed, and where one changed under the comparison."""

    latest: dict[int, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    def see(self, served: Served, index: int) -> None:
        """Record which bits answered for the images from `index` on."""
        before = self.latest.setdefault(served.version, served.numerics)
        if served.numerics != before:
            what = f"{before or 'none promised'} to {served.numerics or 'none promised'}"
            self.changes.append(f"{served.model}:{served.version} at index {index}, {what}")
            self.latest[served.version] = served.numerics


def compare(client: Client, args: argparse.Namespace) -> Outcome:
    """The differences as a table; beyond the threshold with an exit code of its own."""
    first, second = client.model(args.model), client.model(args.other)
    _check_comparable(first, second)
    with Progress(args.count) as progress:
        difference, numerics = _measure(client, (first, second), args, progress)
    beyond = args.threshold is not None and (difference.broken > 0 or difference.mean > args.threshold)
    facts = [
        ("versions", f"{first.name}:{first.version} and {second.name}:{second.version}"),
        ("images", f"{difference.images}, seed {args.seed}"),
        ("mean difference", f"{difference.mean:.6f}, of pixel values {_range(first)}"),
        ("largest difference", f"{difference.largest:.6f}, at index {difference.largest_at}"),
    ]
    if difference.broken:
        facts.append(
            ("not finite", f"{difference.broken} images, left out above; the first at {difference.first_broken}")
        )
    shifts = np.concatenate([*difference.shifts, np.empty(0)])
    if len(shifts):
        what = "ELBO" if first.kind == "vae" else "log-likelihood"
        facts.append((f"{what} shift", f"{shifts.mean():+.4f} nats, on images of {first.name}:{first.version}"))
    if numerics.changes:
        others = f"; {len(numerics.changes) - 1} more" if len(numerics.changes) > 1 else ""
        facts.append(("numerics changed", f"{numerics.changes[0]}{others}: last bits are of different servers"))
    if args.threshold is not None:
        facts.append(("threshold", f"{args.threshold:g}: {'beyond it' if beyond else 'within it'}"))
    return Outcome(align(facts), BEYOND_THRESHOLD if beyond else 0)


def _measure(
    client: Client, versions: tuple[ModelInfo, ModelInfo], args: argparse.Namespace, progress: Progress
) -> tuple[Difference, Numerics]:
    refs = [ModelRef(info.name, version=info.version) for info in versions]
    rows = min(_CHUNK_ROWS, *(max_image_rows(info, "float32") for info in versions))
    alike = versions[0].kind == versions[1].kind
    can_score = alike and all(Capability.SCORE in info.capabilities for info in versions)
    difference, numerics = Difference(), Numerics()
    with (
        client.stream_samples(refs[0], args.count, seed=args.seed, chunk_rows=rows, any_numerics=True) as one,
        client.stream_samples(refs[1], args.count, seed=args.seed, chunk_rows=rows, any_numerics=True) as other,
    ):
        for ours, theirs in zip(one, other, strict=True):
            for samples in (ours, theirs):
                numerics.see(samples.served, samples.first_index)
            shifts = _shifts(client, refs, ours) if can_score else None
            difference.add(ours.images, theirs.images, shifts, ours.first_index)
            progress.update(len(ours.images))
    return difference, numerics


def _shifts(client: Client, refs: Sequence[ModelRef], samples: Samples) -> NDArray[np.float64]:
    """The second version's ELBOs of the images less the first's, [n]; NaN for images that are no numbers.

    Of autoencoders, which have no ELBO, it is the log-likelihoods at their latents.
    """
    shifts = np.full(len(samples.images), np.nan)
    rows = np.isfinite(samples.images).all(axis=(1, 2, 3))
    if rows.any():
        labels = None if samples.labels is None else samples.labels[rows]
        scores = [client.score(ref, samples.images[rows], priority="bulk", labels=labels) for ref in refs]
        before, after = (-one.reconstruction_error if one.elbo is None else one.elbo for one in scores)
        with np.errstate(invalid="ignore"):
            shifts[rows] = after.astype(np.float64) - before
    return shifts


def _check_comparable(first: ModelInfo, second: ModelInfo) -> None:
    """Refuse versions for which a seed means different latents, or whose images differ in shape or range."""
    for what, one, other in (
        ("latent dimensions", first.latent_dim, second.latent_dim),
        ("prior", first.prior, second.prior),
        ("noise dimensions", first.noise_dim, second.noise_dim),
        ("image shape", first.image_shape, second.image_shape),
        ("value range", first.value_range, second.value_range),
        ("noise scheme", first.noise_scheme, second.noise_scheme),
        ("labels", first.labels, second.labels),
    ):
        if one != other:
            names = f"{first.name}:{first.version} and {second.name}:{second.version}"
            raise ComparisonError(f"{names} cannot be compared: {what} {one} and {other}")


def _range(info: ModelInfo) -> str:
    low, high = info.value_range
    return f"{low:g} to {high:g}"
