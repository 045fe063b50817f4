"""The command line of `latentserve-bulk`, read into a request."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from latentserve.contract import MAX_INDEX, MAX_VERSION, NAME, TEMPERATURES, TRUNCATIONS
from latentserve_bulk.job import IMAGE_FORMS, Command, ImageOptions, Numerics, SampleOptions
from latentserve_bulk.run import Execution
from latentserve_bulk.worker import Place
from latentserve_server.offline.requests import PRIOR_NAMES

PROG = "latentserve-bulk"
LAKE_COMMANDS = {
    "encode": "means and log variances, or codes, of images",
    "score": "how well a model explains images",
    "reconstruct": "images encoded and decoded again",
}
_MAX_SEED = 2**64 - 1
_MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class ModelName:
    """Which version of which model: of a number, of an alias, or the highest."""

    name: str
    version: int | None = None
    alias: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A job as it is asked for. What it is asked of is not looked at yet."""

    command: Command
    model: ModelName
    rows: int
    """Of samples; 0 of a lake."""
    sample: SampleOptions | None
    images: ImageOptions | None
    """Without what only the lake and the model tell."""
    labels: tuple[str, ...]
    """By number or name."""
    range_rows: int | None
    batch_rows: int
    device: str
    precision: str
    numerics: Numerics
    place: Place
    execution: Execution


@dataclass(frozen=True, slots=True)
class Verification:
    """An output folder that is to be held to its manifest."""

    output: str


def read(argv: Sequence[str] | None) -> Request | Verification:
    """What the arguments ask for; ends the process where they are not understood, or ask for help."""
    parser = argparse.ArgumentParser(PROG, description="Very large jobs, on this machine or on a cluster of Ray.")
    parser.add_argument("--version", action="version", version=f"{PROG} {version('latentserve-server')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_sample(commands.add_parser("sample", help="draw images from the prior, into Parquet"))
    for name, what in LAKE_COMMANDS.items():
        _add_lake(commands.add_parser(name, help=what), name)
    verify = commands.add_parser("verify", help="hold the files of a finished job to its manifest")
    verify.add_argument("output", metavar="FOLDER", help="the job's output")
    arguments = parser.parse_args(argv)
    if arguments.command == "verify":
        return Verification(arguments.output)
    return _request(arguments)


def _add_sample(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--count", type=integer(1, MAX_INDEX), required=True, help="number of images")
    parser.add_argument("--seed", type=integer(0, _MAX_SEED), required=True, help="same seed, same images")
    parser.add_argument("--first-index", type=integer(0, MAX_INDEX), default=0, help="the first row's index; default 0")
    parser.add_argument("--prior", choices=PRIOR_NAMES, help="default the model's own")
    parser.add_argument("--temperature", type=number(*TEMPERATURES), metavar="T", help="times the noise; default 1")
    parser.add_argument("--truncation", type=number(*TRUNCATIONS), metavar="T", help="cut the noise off at +-T")
    parser.add_argument("--psi", type=number(-math.inf, math.inf), metavar="P", help="of models that take one")
    parser.add_argument("--labels", metavar="L,L,...", help="by number or name, in turn; default all there are")
    _add_image(parser)
    parser.add_argument("--latents", action="store_true", help="write the latents, too")


def _add_lake(parser: argparse.ArgumentParser, command: str) -> None:
    _add_common(parser)
    what = "folder or URL of picture files, or of Parquet files"
    parser.add_argument("--images", required=True, metavar="PATH", help=what)
    parser.add_argument("--column", default="image", metavar="NAME", help="of images, in Parquet; default %(default)s")
    parser.add_argument("--resize", action="store_true", help="bring pictures of other sizes to the model's")
    parser.add_argument("--label", metavar="L", help="of all images, by number or name, of a conditional model")
    if command == "reconstruct":
        _add_image(parser)


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image", choices=IMAGE_FORMS, default=IMAGE_FORMS[0], help="files, or tensors; default %(default)s"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=model_name, metavar="MODEL", help="name, name:3 (version) or name@stable (alias)")
    parser.add_argument("--repository", required=True, metavar="PATH", help="directory or URL of bundles")
    parser.add_argument("--output", required=True, metavar="PATH", help="folder or URL, as every worker reaches it")
    parser.add_argument("--address", help="of a cluster of Ray, host:port; default: start Ray here")
    parser.add_argument("--workers", type=integer(1, 1 << 20), metavar="N", help="at a time, at most; default all room")
    parser.add_argument(
        "--threads", type=integer(1, _MAX_THREADS), default=1, metavar="K", help="of each worker on the CPU; default 1"
    )
    parser.add_argument(
        "--shard", type=shard, metavar="I/N", help="without Ray: make every N-th range from I on, in this process alone"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first row that cannot be made")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--range-rows", type=integer(1, 1 << 24), metavar="N", help="rows of a file; default by size")
    parser.add_argument("--batch-rows", type=integer(1, 4096), default=64, metavar="N", help="of a run; default 64")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu or cuda; default auto")
    parser.add_argument("--precision", choices=("float32", "float16", "int8"), default="float32")
    parser.add_argument("--numerics", choices=("fast", "portable"), default="fast", help="as the server's")
    parser.add_argument("--cache-dir", default="", metavar="PATH", help="where bundles of a URL are kept on a machine")


def _request(arguments: argparse.Namespace) -> Request:
    is_sample = arguments.command == "sample"
    labels = arguments.labels if is_sample else arguments.label
    return Request(
        command=arguments.command,
        model=arguments.model,
        rows=arguments.count if is_sample else 0,
        sample=_sample_options(arguments) if is_sample else None,
        images=None if is_sample else _image_options(arguments),
        labels=(tuple(labels.split(",")) if is_sample else (labels,)) if labels else (),
        range_rows=arguments.range_rows,
        batch_rows=arguments.batch_rows,
        device=arguments.device,
        precision=arguments.precision,
        numerics=arguments.numerics,
        place=Place(
            repository=_absolute(arguments.repository),
            output=_absolute(arguments.output),
            images="" if is_sample else _absolute(arguments.images),
            threads=arguments.threads,
            cache=arguments.cache_dir and _absolute(arguments.cache_dir),
            strict=arguments.strict,
        ),
        execution=Execution(
            address=arguments.address, workers=arguments.workers, shard=arguments.shard, quiet=arguments.quiet
        ),
    )


def _sample_options(arguments: argparse.Namespace) -> SampleOptions:
    return SampleOptions(
        seed=arguments.seed,
        first_index=arguments.first_index,
        prior=arguments.prior,
        temperature=arguments.temperature,
        truncation=arguments.truncation,
        psi=arguments.psi,
        image=arguments.image,
        latents=arguments.latents,
    )


def _image_options(arguments: argparse.Namespace) -> ImageOptions:
    form = arguments.image if arguments.command == "reconstruct" else IMAGE_FORMS[0]
    return ImageOptions(
        kind="pictures", lake="", column=arguments.column, resize=arguments.resize, labels=(), image=form
    )


def model_name(value: str) -> ModelName:
    """Reads a model."""
    found = re.fullmatch(rf"({NAME.pattern})(?::([1-9][0-9]*)|@({NAME.pattern}))?", value)
    if found is None or int(found[2] or 1) > MAX_VERSION:
        raise argparse.ArgumentTypeError(f"{value!r} is not a model: write name, name:3 or name@stable")
    return ModelName(found[1], int(found[2]) if found[2] else None, found[3])


def shard(value: str) -> tuple[int, int]:
    """Reads I/N."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value)
    if found is None or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(f"{value!r} is not I/N, such as 0/4, with I from 0 to N - 1")
    return int(found[1]), int(found[2])


def device(value: str) -> str:
    """Reads a device."""
    if value not in ("auto", "cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{value!r} is not auto, cpu or cuda")
    return value


def integer(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer from low to high."""

    def read(value: str) -> int:
        if not value.isdecimal() or not low <= int(value) <= high:
            raise argparse.ArgumentTypeError(f"{value!r} is not an integer from {low} to {high}")
        return int(value)

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a finite number from low to high."""

    def read(value: str) -> float:
        try:
            result = float(value)
        except ValueError:
            result = math.nan
        if not (low <= result <= high and math.isfinite(result)):
            allowed = f"number from {low:g} to {high:g}" if math.isfinite(low) else "finite number"
            raise argparse.ArgumentTypeError(f"{value!r} is not a {allowed}")
        return result

    return read


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())
