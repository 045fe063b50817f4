"""Every family learns, with every objective, likelihood and game: seconds of training, held to the numbers they reach.

A loss can be broken and still descend. So each run is held to several quantities, which scipy and
scikit-learn compute from the trained networks alone, each within bounds that broken losses were seen to miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from training.learned_quantities import quantities

from latentserve_training import commands
from latentserve_training.run.trained_model import TrainedModel

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


def trained(name: str, seed: int, folder: Path) -> TrainedModel:
    """By the command itself; the weights are those that would be served."""
    options = f"--model.family {RUNS[name].options} {EVERY_RUN} --seed {seed} --output"
    assert commands.train([*options.split(), str(folder)]) == 0
    return TrainedModel.load(folder)
