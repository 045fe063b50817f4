"""The `latentserve` command: what the server holds, and its calls from files to files.

Exit codes: 0 done, 1 an error, told in one line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_client.arguments import parse_arguments
from latentserve_client.bulk import ArrayFormat, BulkClient
from latentserve_client.client import Client
from latentserve_client.errors import LatentServeError, UnavailableError
from latentserve_client.files import FileError, check_output, read_image, read_latents, write_array, write_picture
from latentserve_client.grid import draw_grid, draw_pairs
from latentserve_client.listing import describe_model, list_models
from latentserve_client.progress import Progress
from latentserve_client.types import ModelInfo


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, the process's own unless given, and return the exit code."""
    args = parse_arguments(argv)
    try:
        with Client(args.server, timeout=args.timeout) as client:
            print(_COMMANDS[args.command](client, args))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except UnavailableError as error:
        return _fail(f"no answer from {args.server}: {error}", 1)
    except (LatentServeError, FileError) as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"latentserve: {' '.join(message.split())}", file=sys.stderr)
    return code


def _models(client: Client, args: argparse.Namespace) -> str:
    return list_models(client.models())


def _model(client: Client, args: argparse.Namespace) -> str:
    return describe_model(client.model(args.model))


def _sample(client: Client, args: argparse.Namespace) -> str:
    started = time.perf_counter()
    check_output(args.output)
    info = client.model(args.model)
    seed = secrets.randbits(64) if args.seed is None else args.seed
    with Progress(sys.stderr, args.count) as progress:
        images = BulkClient(client, info, progress.advance).sample(
            args.count, seed=seed, first_index=args.first_index, format=_array_format(args.output)
        )
    _write_images(args.output, images)
    start = f" from index {args.first_index}" if args.first_index else ""
    return _done(args.output, _count(args.count, "image"), f"seed {seed}{start}", info, started)


def _encode(client: Client, args: argparse.Namespace) -> str:
    started = time.perf_counter()
    check_output(args.output)
    info = client.model(args.model)
    files = [read_image(path, info.image_shape).data for path in args.images]
    with Progress(sys.stderr, len(files)) as progress:
        latents = BulkClient(client, info, progress.advance).encode(
            files, draw_seed=args.draw_seed, first_index=args.first_index
        )
    write_array(args.output, latents)
    how = "posterior means" if args.draw_seed is None else f"drawn with seed {args.draw_seed}"
    return _done(args.output, f"{_count(len(latents), 'latent')} of {latents.shape[1]} dimensions", how, info, started)


def _decode(client: Client, args: argparse.Namespace) -> str:
    started = time.perf_counter()
    check_output(args.output)
    info = client.model(args.model)
    latents = read_latents(args.latents, info.latent_dim)
    with Progress(sys.stderr, len(latents)) as progress:
        images = BulkClient(client, info, progress.advance).decode(latents, format=_array_format(args.output))
    _write_images(args.output, images)
    return _done(args.output, _count(len(images), "image"), f"latents of {args.latents}", info, started)


def _reconstruct(client: Client, args: argparse.Namespace) -> str:
    started = time.perf_counter()
    check_output(args.output)
    info = client.model(args.model)
    files = [read_image(path, info.image_shape) for path in args.images]
    with Progress(sys.stderr, len(files)) as progress:
        images, errors, divergences = BulkClient(client, info, progress.advance).reconstruct(
            [file.data for file in files], format=_array_format(args.output)
        )
    if _is_array(args.output):
        write_array(args.output, images)
    else:
        write_picture(args.output, draw_pairs(np.stack([file.pixels for file in files]), images))
    cost = f"mean error {errors.mean():.1f} nats, mean KL {divergences.mean():.1f} nats"
    return _done(args.output, _count(len(files), "reconstruction"), cost, info, started)


_COMMANDS: Mapping[str, Callable[[Client, argparse.Namespace], str]] = MappingProxyType(
    {
        "models": _models,
        "model": _model,
        "sample": _sample,
        "encode": _encode,
        "decode": _decode,
        "reconstruct": _reconstruct,
    }
)


def _is_array(output: Path) -> bool:
    return output.suffix.lower() == ".npy"


def _array_format(output: Path) -> ArrayFormat:
    return "float32" if _is_array(output) else "uint8"


def _write_images(output: Path, images: NDArray[Any]) -> None:
    if _is_array(output):
        write_array(output, images)
    else:
        write_picture(output, draw_grid(images))


def _done(output: Path, what: str, how: str, info: ModelInfo, started: float) -> str:
    return f"{output}: {what}, {how}, model {info.name}:{info.version}, {time.perf_counter() - started:.2f} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
