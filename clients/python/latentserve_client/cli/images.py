"""Images to latents, latents to images, and both: from files to files."""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from latentserve_client.bulk import BulkClient
from latentserve_client.cli.files import find_images, read_image, read_latents
from latentserve_client.cli.grid import draw_pairs
from latentserve_client.cli.labels import read_labels
from latentserve_client.cli.outcome import Outcome, quantity, written
from latentserve_client.cli.progress import Progress
from latentserve_client.client import Client


def encode(client: Client, args: argparse.Namespace) -> Outcome:
    """Posterior means, or draws from the posteriors, of image files."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    labels = read_labels(args.labels, info)
    files = [read_image(path, info.manifest.image, resize=args.resize).data for path in find_images(args.images)]
    with Progress(sys.stderr, len(files)) as progress:
        latents = BulkClient(client, info, progress.advance, labels).encode(
            files, draw_seed=args.draw_seed, first_index=args.first_index, resize=args.resize
        )
    args.output.write_array(latents)
    how = "posterior means" if args.draw_seed is None else f"drawn with seed {args.draw_seed}"
    what = f"{quantity(len(latents), 'latent')} of {latents.shape[1]} dimensions"
    return written(args.output, what, how, info, started)


def decode(client: Client, args: argparse.Namespace) -> Outcome:
    """The images of a file of latents."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    labels = read_labels(args.labels, info)
    latents = read_latents(args.latents, info.latent_dim)
    with Progress(sys.stderr, len(latents)) as progress:
        images = BulkClient(client, info, progress.advance, labels).decode(latents, format=args.output.format)
    args.output.write_images(images)
    return written(args.output, quantity(len(images), "image"), f"latents of {args.latents}", info, started)


def reconstruct(client: Client, args: argparse.Namespace) -> Outcome:
    """The reconstructions of image files, below their originals."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    labels = read_labels(args.labels, info)
    files = [read_image(path, info.manifest.image, resize=args.resize) for path in find_images(args.images)]
    with Progress(sys.stderr, len(files)) as progress:
        images, errors, divergences = BulkClient(client, info, progress.advance, labels).reconstruct(
            [file.data for file in files], format=args.output.format, resize=args.resize
        )
    if args.output.form == "npy":
        args.output.write_array(images)
    else:
        args.output.write_picture(draw_pairs(np.stack([file.pixels for file in files]), images))
    cost = f"mean error {errors.mean():.1f} nats, mean KL {divergences.mean():.1f} nats"
    return written(args.output, quantity(len(files), "reconstruction"), cost, info, started)
