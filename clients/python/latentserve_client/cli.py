"""The `latentserve` command: what the server holds, and its calls from files to files.

Exit codes: 0 done, 1 an error, told in one line, 2 wrong usage, 3 a comparison beyond its threshold, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from latentserve_client.admin import AdminClient
from latentserve_client.arguments import parse_arguments
from latentserve_client.client import Client
from latentserve_client.commands import admin, compare, describe, images, sample, score, walk
from latentserve_client.commands.outcome import Outcome
from latentserve_client.errors import LatentServeError, UnavailableError, UnimplementedError
from latentserve_client.files import FileError

_COMMANDS: Mapping[str, Callable[[Client, argparse.Namespace], Outcome]] = MappingProxyType(
    {
        "models": describe.models,
        "model": describe.model,
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

_LISTENERS = "--server names the admin listener for admin, and the main one for all else"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, the process's own unless given, and return the exit code."""
    args = parse_arguments(argv)
    try:
        outcome = _run(args)
    except KeyboardInterrupt as error:
        return _fail("interrupted", error, 130)
    except UnavailableError as error:
        return _fail(f"no answer from {args.server}: {error}", error, 1)
    except UnimplementedError as error:
        return _fail(f"{args.server} does not answer this call; {_LISTENERS}: {error}", error, 1)
    except (LatentServeError, FileError) as error:
        return _fail(str(error), error, 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), error, 1)
    print(outcome.text)
    return outcome.code


def _run(args: argparse.Namespace) -> Outcome:
    if args.command == "admin":
        with AdminClient(args.server, timeout=args.timeout) as admin_client:
            return admin.admin(admin_client, args)
    with Client(args.server, timeout=args.timeout) as client:
        return _COMMANDS[args.command](client, args)


def _fail(message: str, error: BaseException, code: int) -> int:
    """Say what happened, and what the command has noted besides, in one line."""
    text = "; ".join([message, *getattr(error, "__notes__", ())])
    print(f"latentserve: {' '.join(text.split())}", file=sys.stderr)
    return code
