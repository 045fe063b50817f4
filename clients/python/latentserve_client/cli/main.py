"""The `latentserve` command: what the server holds, and its calls from files to files.

Exit codes: 0 done, 1 an error, told in one line, 2 wrong usage, 3 a comparison beyond its threshold, 130 interrupted,
141 nobody reads the output, 143 terminated.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType

from latentserve_client.admin import AdminClient
from latentserve_client.cli import admin, compare, images, models, sample, score, walk
from latentserve_client.cli.arguments import parse_arguments
from latentserve_client.cli.files import FileError
from latentserve_client.cli.models import list_names
from latentserve_client.cli.outcome import Outcome
from latentserve_client.cli.output import StandardOutputError
from latentserve_client.client import Client
from latentserve_client.errors import (
    DeadlineExceededError,
    LatentServeError,
    NotFoundError,
    RequestError,
    UnavailableError,
    UnimplementedError,
)

_COMMANDS: Mapping[str, Callable[[Client, argparse.Namespace], Outcome]] = MappingProxyType(
    {
        "models": models.models,
        "model": models.model,
        "sample": sample.sample,
        "encode": images.encode,
        "decode": images.decode,
        "reconstruct": images.reconstruct,
        "interpolate": walk.interpolate,
        "traverse": walk.traverse,
        "score": score.score,
        "compare": compare.compare,
    }
)

_UNREAD = 141
"""What a shell shows of a command that SIGPIPE has ended, as it ends most commands whose reader leaves."""

_LISTENERS = "--server names the admin listener for admin, and the main one for all else"


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, the process's own unless given, and return the exit code."""
    try:
        with _written_out():
            return _answer(parse_arguments(argv))
    except OSError as error:
        if error.errno == errno.EPIPE:
            return _UNREAD
        return _fail(f"standard output: {error.strerror}", error, 1)


def _answer(args: argparse.Namespace) -> int:
    """Print what the command finds, or what kept it from that; returns the exit code."""
    try:
        outcome = _run(args)
    except Terminated as error:
        return _fail("terminated", error, 143)
    except KeyboardInterrupt as error:
        return _fail("interrupted", error, 130)
    except UnavailableError as error:
        return _fail(str(error) if error.answered else f"no answer from {args.server}: {error}", error, 1)
    except DeadlineExceededError as error:
        return _fail(f"{error}; --timeout gives a call other than {args.timeout:g} s", error, 1)
    except UnimplementedError as error:
        return _fail(f"{args.server} does not answer this call; {_LISTENERS}: {error}", error, 1)
    except StandardOutputError:
        raise
    except RequestError as error:
        return _fail(str(error), error, 2)
    except (LatentServeError, FileError) as error:
        return _fail(str(error), error, 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), error, 1)
    print(outcome.text, file=sys.stderr if outcome.aside else sys.stdout)
    return outcome.code


def _run(args: argparse.Namespace) -> Outcome:
    if args.command == "admin":
        with AdminClient(args.server, timeout=args.timeout) as admin_client:
            return admin.admin(admin_client, args)
    with Client(args.server, timeout=args.timeout) as client:
        try:
            return _COMMANDS[args.command](client, args)
        except NotFoundError as error:
            with suppress(LatentServeError):
                error.add_note(f"the server has {list_names(client.models())}")
            raise


def _fail(message: str, error: BaseException, code: int) -> int:
    """Say what happened, and what the command has noted besides, in one line."""
    text = "; ".join([message, *getattr(error, "__notes__", ())])
    with suppress(OSError):  # where nobody listens the exit code has to do
        print(f"latentserve: {' '.join(text.split())}", file=sys.stderr)
    return code


@contextmanager
def _written_out() -> Iterator[None]:
    """What the block prints is on its way when it ends; raises OSError where it is not, and then drops the rest."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again as it ends
        raise
