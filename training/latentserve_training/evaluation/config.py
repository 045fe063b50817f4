"""The settings of an evaluation, and the command line that sets them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from latentserve_training.command_line.parser import fill, make_parser
from latentserve_training.errors import ConfigError

FEWEST_SAMPLES = 100
_MOST = 10_000_000
"""Upper limit on any count option."""
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of weights-inception-2015-12-05-6726825d.pth in torch-fidelity's release v0.2.0; pytorch-fid has the same file as
pt_inception-2015-12-05-6726825d.pth."""
LARGEST_SEED = 2**32 - 1
"""The largest seed that scikit-learn takes, which fits the mixture."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Numbers of images and draws, and the seed of everything random."""

    samples: int = 10_000
    """Images to draw from the model, at least 100; as many test images are taken for what needs both, if there are."""
    nll_draws: int = 500
    """Draws K an image of the importance-weighted bound; 0 leaves it out."""
    nll_images: int = 1_000
    """Test images of the importance-weighted bound, or all where there are fewer."""
    classifier_score: bool = False
    """Whether to train a classifier on a conditional model's samples, as many as it was trained on."""
    classifier_steps: int = 1_000
    """Steps that a classifier of the data's classes is trained for, or ten passes over the images if that is more."""
    inception_weights: Path | None = None
    """File of Inception's weights, which FID of colour images is measured with; without one it is left out."""
    inception_sha256: str = INCEPTION_SHA256
    """The SHA-256 that this file must have, in hexadecimal."""
    seed: int = 0
    """Seed of all noise and of the choice of subsets."""

    def __post_init__(self) -> None:
        leasts = {"samples": FEWEST_SAMPLES, "nll_draws": 0, "nll_images": 1, "classifier_steps": 1, "seed": 0}
        for option, least in leasts.items():
            value, most = getattr(self, option), LARGEST_SEED if option == "seed" else _MOST
            if not least <= value <= most:
                flag = option.replace("_", "-")
                bound = f"at least {least}" if value < least else f"at most {most}"
                raise ConfigError(f"--{flag} is {value}; it must be {bound}")
        if not re.fullmatch("[0-9a-f]{64}", self.inception_sha256):
            raise ConfigError(f"--inception-sha256 is {self.inception_sha256}; it must be 64 digits from 0 to f")


QUICK = EvaluationConfig(samples=1_000, nll_draws=50, nll_images=100, classifier_steps=300)
"""Enough to see that a run is sound."""
_QUICK_HELP = "1,000 samples, 50 draws, 100 images and 300 classifier steps, unless given."


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate, and how thoroughly."""

    run: Path
    data_root: Path | None
    config: EvaluationConfig


def parse(argv: Sequence[str] | None, prog: str) -> EvaluationRequest:
    """The request parsed from a command line.

    Raises:
        ArgumentError: an option is unknown, missing, of the wrong type or out of range.
    """
    parser = make_parser(
        prog, "Judge a run's model on its test images; write report.json, report.md and pictures into the run."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder that latentserve-train made.")
    parser.add_argument("--data-root", type=Path | None, help="Folder of the data, where it has moved since training.")
    parser.add_argument("--samples", type=int | None, help="Images to draw from the model (default: 10000).")
    parser.add_argument(
        "--nll-draws",
        type=int | None,
        help="Draws for each image of the importance-weighted bound; 0 for none (default: 500).",
    )
    parser.add_argument(
        "--nll-images", type=int | None, help="Test images that the bound is computed on (default: 1000)."
    )
    parser.add_argument(
        "--classifier-score",
        action="store_true",
        default=None,
        help="For conditional models: train a classifier on as many samples as images; test it on real ones.",
    )
    parser.add_argument(
        "--classifier-steps", type=int | None, help="Steps of each classifier, or ten passes if more (default: 1000)."
    )
    parser.add_argument(
        "--inception-weights",
        type=Path | None,
        metavar="PATH",
        help="For colour images: file of Inception's weights for FID; nothing is downloaded.",
    )
    parser.add_argument(
        "--inception-sha256",
        type=str | None,
        metavar="DIGEST",
        help="SHA-256 that this file must have (default: that of torch-fidelity's file of 2015-12-05).",
    )
    parser.add_argument("--seed", type=int | None, help="Seed of all noise and of the choice of subsets (default: 0).")
    parser.add_argument("--quick", action="store_true", help=_QUICK_HELP)
    parser.add_argument(
        "--untuned",
        action="store_true",
        help="Leave malloc and OpenMP as they are, instead of restarting with both tuned for a CPU.",
    )
    values = parser.parse_args(argv)
    preset = asdict(QUICK if values.quick else EvaluationConfig())
    given = {name: values[name] for name in preset if values[name] is not None}
    config = fill(EvaluationConfig, preset | given)
    return EvaluationRequest(run=values.run, data_root=values.data_root, config=config)
