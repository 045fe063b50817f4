"""Command lines of small runs: 8x8 digits, three epochs of five steps, every family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from latentserve_training.evaluation.config import QUICK

JUDGED = replace(QUICK, samples=100, classifier_steps=1)
"""An evaluation of a run on 8x8 digits; its classifier takes ten passes, a third of a second."""
UNJUDGED = ["--model.min_diversity", "0"]
"""Of a GAN whose few steps draw much the same image from every latent."""
CONV_GAN = ["--model.latent_dim", "8", "--model.width", "8", "--model.dense", "16", *UNJUDGED]
SMALL = {
    "conv_vae": ["--model.latent_dim", "8", "--model.narrow", "8", "--model.wide", "8", "--model.dense", "16"],
    "mlp_vae": ["--model.wide", "32", "--model.narrow", "16"],
    "mlp_gan": [
        *("--model.latent_dim", "8", "--model.generator_width", "32", "--model.discriminator_width", "32", *UNJUDGED)
    ],
    "cvae": [
        "--model.latent_dim",
        "4",
        "--model.label_dim",
        "4",
        "--model.narrow",
        "8",
        "--model.wide",
        "8",
        "--model.dense",
        "16",
    ],
    "dcgan": CONV_GAN,
    "wgan_gp": [*CONV_GAN, "--model.game.discriminator_steps", "3"],
    "cgan": [*CONV_GAN, "--model.label_dim", "4"],
}


def arguments(family: str, output: Path, *more: str) -> list[str]:
    """The command line of a run that takes a second: five steps an epoch."""
    return [
        *("--model.family", family, *SMALL[family]),
        *("--data.size", "8", "--trainer.epochs", "3", "--trainer.batch_size", "256", "--trainer.precision", "float32"),
        *("--output", str(output), *more),
    ]
