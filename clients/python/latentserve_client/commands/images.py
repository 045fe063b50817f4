"""Images to latents, latents to images, and both: from files to files."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentserve_client.bulk import BulkClient
from latentserve_client.client import Client
from latentserve_client.commands.outcome import Outcome, quantity, written
from latentserve_client.files import check_output, read_image, read_latents, write_array, write_picture
from latentserve_client.grid import draw_grid, draw_pairs
from latentserve_client.progress import Progress


def encode(client: Client, args: argparse.Namespace) -> Outcome:
    """Posterior means, or draws from the posteriors, of image files."""
    started = time.perf_counter()
    check_output(args.output)
    info = client.model(args.model)
    files = [read_image(path, info.manifest.image, resize=args.resize).data for path in args.images]
    with Progress(sys.stderr, len(files)) as progress:
        latents = BulkClient(client, info, progress.advance, args.labels).encode(
            files, draw_seed=args.draw_seed, first_index=args.first_index, resize=args.resize
        )
    write_array(args.output, latents)
    how = "posterior means" if args.draw_seed is None else f"drawn with seed {args.draw_seed}"
    what = f"{quantity(len(latents), 'latent')} of {latents.shape[1]} dimensions"
    return written(args.output, what, how, info, started)


def decode(client: Client, args: argparse.Namespace) -> Outcome:
    """The images of a file of latents."""
    started = time.perf_counter()
    check_output(args.output)
    info = client.model(args.model)
    latents = read_latents(args.latents, info.latent_dim)
    with Progress(sys.stderr, len(latents)) as progress:
        images = BulkClient(client, info, progress.advance, args.labels).decode(latents, format=format_of(args.output))
    write_images(args.output, images)
    return written(args.output, quantity(len(images), "image"), f"latents of {args.latents}", info, started)


def reconstruct(client: Client, args: argparse.Namespace) -> Outcome:
    """The reconstructions of image files, below their originals."""
    started = time.perf_counter()
    check_output(args.output)
    info = client.model(args.model)
    files = [read_image(path, info.manifest.image, resize=args.resize) for path in args.images]
    with Progress(sys.stderr, len(files)) as progress:
        images, errors, divergences = BulkClient(client, info, progress.advance, args.labels).reconstruct(
            [file.data for file in files], format=format_of(args.output), resize=args.resize
        )
    if format_of(args.output) == "float32":
        write_array(args.output, images)
    else:
        write_picture(args.output, draw_pairs(np.stack([file.pixels for file in files]), images))
    cost = f"mean error {errors.mean():.1f} nats, mean KL {divergences.mean():.1f} nats"
    return written(args.output, quantity(len(files), "reconstruction"), cost, info, started)


def format_of(output: Path) -> Literal["float32", "uint8"]:
    """What an output file wants: the values themselves, or what can be seen of them."""
    return "float32" if output.suffix.lower() == ".npy" else "uint8"


def write_images(output: Path, images: NDArray[Any], columns: int | None = None) -> None:
    """Images in the format that format_of names, as an array or as a grid of so many columns."""
    if format_of(output) == "float32":
        write_array(output, images)
    else:
        write_picture(output, draw_grid(images, columns))
