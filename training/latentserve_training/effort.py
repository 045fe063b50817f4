"""How much work an evaluation takes on."""

from __future__ import annotations

from dataclasses import dataclass

from latentserve_training.errors import ConfigError

FEWEST_SAMPLES = 100
_MOST = 10_000_000
"""Of anything: many times what an evaluation of the record takes."""
LARGEST_SEED = 2**32 - 1
"""What scikit-learn takes, which fits the mixture."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Numbers of images and draws, and the seed of everything random."""

    samples: int = 10_000
    """Images to draw from the model, at least 100; as many test images are taken for what needs both, if there are."""
    nll_draws: int = 500
    """Draws K an image of the importance-weighted bound; 0 leaves it out."""
    nll_images: int = 1_000
    """Test images of the importance-weighted bound, or all where there are fewer."""
    classifier_score: bool = False
    """Whether to train a classifier on a conditional model's samples, as many as it was trained on."""
    seed: int = 0
    """Seed of all noise and of the choice of subsets."""

    def __post_init__(self) -> None:
        for option, least in (("samples", FEWEST_SAMPLES), ("nll_draws", 0), ("nll_images", 1), ("seed", 0)):
            value, most = getattr(self, option), LARGEST_SEED if option == "seed" else _MOST
            if not least <= value <= most:
                flag = option.replace("_", "-")
                bound = f"at least {least}" if value < least else f"at most {most}"
                raise ConfigError(f"--{flag} is {value}; it must be {bound}")


QUICK = Effort(samples=1_000, nll_draws=50, nll_images=100)
"""Enough to see that a run is sound."""
