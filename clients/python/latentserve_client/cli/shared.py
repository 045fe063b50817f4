"""Options, progress bar and output lines that several commands share."""

from __future__ import annotations

import argparse
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tqdm import tqdm

from latentserve.contract import CHANNELS, MAX_INDEX, PICTURE_CHANNELS
from latentserve_client.cli.output import Form, Output
from latentserve_client.errors import RequestError
from latentserve_client.models import ModelInfo, ModelRef

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

GRID = "a grid in .png, .jpg or .webp"
IMAGE_OUTPUT = f"{GRID}, a .npy array float32 [n, channels, height, width], or a folder/ for a file an image"


def add_model(parser: argparse.ArgumentParser) -> None:
    """MODEL, as a ModelRef in `model`."""
    parser.add_argument("model", type=model_ref, metavar="MODEL", help="name, name:3 (version) or name@stable (alias)")


def add_images(parser: argparse.ArgumentParser) -> None:
    """IMAGE and --resize: paths in `images`, and whether to resize them."""
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, WebP, GIF or BMP files, or folders of them"
    )
    parser.add_argument("--resize", action="store_true", help="bring images of other sizes to the model's")


def add_labels(parser: argparse.ArgumentParser, text: str) -> None:
    """--labels, for read_labels; the text says which rows they belong to."""
    names = ("--labels", "--label")
    parser.add_argument(*names, metavar="L,L,...", help=f"of a conditional model, by number or name: {text}")


def read_labels(text: str | None, info: ModelInfo) -> list[int] | None:
    """The labels in the text, separated by commas; None for None. A number is always the label itself.

    Raises:
        RequestError: a word is neither a number nor the name of a label of the model.
    """
    if text is None:
        return None
    if text in info.label_names:  # which may have a comma in it
        return [info.label(text)]
    return [int(word) if word.isascii() and word.isdecimal() else info.label(word) for word in text.split(",")]


def add_first_index(parser: argparse.ArgumentParser) -> None:
    """--first-index, from 0."""
    parser.add_argument(
        "--first-index",
        type=integer(0, MAX_INDEX),
        default=0,
        help="the first row's place in the sequence; default 0",
    )


def add_output(parser: argparse.ArgumentParser, text: str, *forms: Form, folders: bool = False) -> None:
    """--output and, where there are several forms, --format: an Output in `output` once the command line is read."""
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=f"{text}; - for standard output")
    if len(forms) > 1:
        where = "of standard output and of the files in a folder/" if folders else "of standard output"
        parser.add_argument("--format", choices=forms, help=f"{where}; default {forms[0]}")
    if set(forms) != {"npy"}:
        text = "channels that pictures show, from 0: one as grey, three as RGB, four as RGBA; default all"
        parser.add_argument("--bands", type=bands, default=(), metavar="B,B,B", help=text)
    parser.set_defaults(format=None, forms=forms, folders=folders, check=resolve_output)


def resolve_output(args: argparse.Namespace) -> None:
    """Make an Output of the name in `output`.

    Raises:
        RequestError: it cannot be written there.
    """
    output = Output.parse(args.output, args.format, args.forms, folders=args.folders)
    args.output = replace(output, bands=getattr(args, "bands", ()))
    if args.output.bands and args.output.form == "npy":
        raise RequestError("--bands is for pictures; a .npy array has all channels")
    if args.output.is_folder and args.output.form == "npy":
        raise RequestError("--format npy is one array; a folder/ has a picture an image")
    check_standard_output(args.output, "-o")


def check_standard_output(output: Output, option: str) -> None:
    """Refuse to write what no person can read to a terminal. Raises RequestError."""
    if output.path is None and (sys.stdout is None or sys.stdout.isatty()):
        raise RequestError(f"{option} - is for a file or a pipe on standard output, not for a terminal")


def model_ref(value: str) -> ModelRef:
    """Reads a model, as ModelRef.parse does."""
    try:
        return ModelRef.parse(value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def integer(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer from low to high."""

    def read(value: str) -> int:
        if not value.isdecimal() or not low <= int(value) <= high:
            raise argparse.ArgumentTypeError(f"{value!r} is not an integer from {low} to {high}")
        return int(value)

    return read


def bands(value: str) -> tuple[int, ...]:
    """Reads the channels that a picture shows, separated by commas."""
    channel = integer(0, CHANNELS[-1] - 1)
    named = tuple(channel(word) for word in value.split(","))
    if len(named) not in PICTURE_CHANNELS:
        raise argparse.ArgumentTypeError(f"{value!r} is not 1, 3 or 4 channels, such as 2 or 3,2,1")
    return named


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a finite number from low to high."""
    allowed = f"number from {low:g} to {high:g}" if math.isfinite(high) else f"number of at least {low:g}"

    def read(value: str) -> float:
        result = _float(value)
        if not (low <= result <= high and math.isfinite(result)):
            raise argparse.ArgumentTypeError(f"{value!r} is not a {allowed if math.isfinite(low) else 'finite number'}")
        return result

    return read


def seconds(value: str) -> float:
    """Reads a positive number of seconds."""
    seconds = _float(value)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive number of seconds")
    return seconds


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True)
class Outcome:
    """The text to print, and the exit code; `aside` if standard output holds what the command made."""

    text: str
    code: int = 0
    aside: bool = False


def written(output: Output, what: str, how: str, info: ModelInfo, started: float) -> Outcome:
    """The line for an output: what is in it, how it was made, by which model and in what time since `started`."""
    seconds = time.perf_counter() - started
    line = f"{output}: {what}, {how}, model {info.name}:{info.version}, {seconds:.2f} s"
    return Outcome(line, aside=output.path is None)


def dimensions(info: ModelInfo) -> str:
    """The model's latents: "2 dimensions", "49 codes of 512", or with their shape "256 dimensions, 4 x 8 x 8"."""
    shape = f", {' x '.join(map(str, info.latent_shape))}" if info.latent_shape != (info.latent_dim,) else ""
    return f"{info.latent_dim} {f'codes of {info.codes}' if info.codes else 'dimensions'}{shape}"


def quantity(number: int, noun: str) -> str:
    """A number with its noun, such as "1 image" and "2 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def align(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Rows of as many cells each as lines of text, in columns; with `numbers` all but the first to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if numbers and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


class Progress(tqdm):  # type: ignore[type-arg]  # it is generic only in the stubs
    """Counts rows on stderr while the block runs, where that is a terminal, and leaves nothing there."""

    monitor_interval = 0  # no thread beside the work

    def __init__(self, total: int) -> None:
        shown = sys.stderr is not None and sys.stderr.isatty()
        # The delay is there so that nothing is shown before the first update.
        super().__init__(total=total, leave=False, delay=1e-9, mininterval=0, disable=not shown)

    def update(self, n: float | None = 1) -> bool | None:
        """Add `n` rows to those done. A job of one call is over then, and shows nothing."""
        return super().update(n) if self.n + (n or 0) < (self.total or 0) else None


Progress.set_lock(threading.RLock())  # unless told, tqdm takes one of multiprocessing's, which may start a process
