"""Names, limits and keys of the contract that its messages do not state."""

from __future__ import annotations

import re

MAX_NAME_CHARACTERS = 128
NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_NAME_CHARACTERS - 1}}}")
"""Names of models and aliases: letters, digits, "_", "." and "-", the first neither "." nor "-"."""

MAX_VERSION = 10**18 - 1
"""Version numbers begin at 1."""

MIN_LABELS, MAX_LABELS = 2, 1 << 16
"""How many labels a conditional model may know."""

CHANNELS = range(1, 1024 + 1)
"""How many channels an image may have."""

PICTURE_CHANNELS = (1, 3, 4)
"""The channels that picture files can show: grey, RGB and RGBA."""

MAX_IMAGE_PIXELS = 1 << 24
"""The most pixels of one image."""

MAX_LATENT_DIM = 1 << 16
"""The most values of a row of noise, and so of a latent; the other half of the noise counter's bound."""

MAX_LATENT_SIDES = 8
"""Sides of a latent that has a shape of its own, at most."""

MAX_NOISE_INPUTS = 64
"""The most noise inputs of one decoder."""

MAX_BATCH_ROWS = 4096
"""The most rows that a graph may demand of every run."""

TENSORS = ("latent", "codes", "label", "image", "image_uint8", "logits", "log_scale", "mean", "log_variance")
"""What tensors of a bundle's graphs are called, and so noise inputs may not be."""

MAX_INDEX = 2**48
"""Noise has indices below this, so that rows, and draws of them, never meet another row's noise."""

TEMPERATURES = (0.0, 4.0)
"""The least and the largest factor of the noise."""

TRUNCATIONS = (0.5, 8.0)
"""The least and the largest bound of truncated noise, in standard deviations."""

CALIBRATION_QUANTILES = 101
"""A calibration holds the 0 %, 1 %, ..., 100 % quantiles."""

REQUEST_ID_KEY = "x-request-id"
"""Metadata key: taken from the request where the caller sent one, and always in the reply's trailing metadata."""
