"""Models of every kind, with and without what autoencoders may carry, and a repository of them."""

from __future__ import annotations

from pathlib import Path

from tiny_bundle import TinyModel

KINDS = {
    "plain": TinyModel(kind="autoencoder", seed=3),
    "blind": TinyModel(kind="autoencoder", likelihood="", noise_dim=2, seed=4),
    "mixed": TinyModel(kind="autoencoder", likelihood="gaussian", components=3, seed=5),
    "normal": TinyModel(kind="autoencoder", prior="standard_normal", seed=6),
    "conditional": TinyModel(kind="autoencoder", labels=3, noise_dim=5, seed=7),
    "vq": TinyModel(kind="vq", codes=6, latent_dim=4, seed=8),
    "drawn": TinyModel(kind="vq", codes=6, latent_dim=4, likelihood="", noise_dim=2, seed=9),
    "flow": TinyModel(noise_dim=4, components=2, seed=10),
    "mapped": TinyModel(kind="gan", noise_dim=2, prior="standard_normal", seed=11),
}


def write_kinds(repository: Path) -> Path:
    """The bundles of all of them, each the first version of the model of its name."""
    for name, model in KINDS.items():
        model.write(repository / name / "1")
    return repository
