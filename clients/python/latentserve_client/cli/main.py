"""The `latentserve` command: its options, its exit codes, and errors in one line.

Exit codes: 0 done, 1 an error, told in one line, 2 wrong usage, 3 a comparison beyond its threshold, 130 interrupted,
141 nobody reads the output, 143 terminated.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

from latentserve_client._calls.bearer import TokenFile
from latentserve_client._calls.channel import check_address
from latentserve_client.admin import AdminClient
from latentserve_client.cli import compare, images, models, sample, score, walk
from latentserve_client.cli.files import FileError
from latentserve_client.cli.output import StandardOutputError
from latentserve_client.cli.shared import Outcome, seconds
from latentserve_client.cli.tls import add_tls, read_tls
from latentserve_client.client import Client
from latentserve_client.errors import (
    DeadlineExceededError,
    LatentServeError,
    NotFoundError,
    RequestError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)

_SERVER = "127.0.0.1:50051"
_ADMIN_SERVER = "127.0.0.1:50052"
_SERVER_VARIABLE = "LATENTSERVE_SERVER"
_ADMIN_SERVER_VARIABLE = "LATENTSERVE_ADMIN_SERVER"
_TOKEN_VARIABLE = "LATENTSERVE_CLIENT_TOKEN_FILE"  # noqa: S105  # the name of a file, and no token

_UNREAD = 141
"""What a shell shows of a command that SIGPIPE has ended, as it ends most commands whose reader leaves."""

_LISTENERS = "--server names the admin listener for admin, and the main one for all else"


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, the process's own unless given, and return the exit code.

    Raises:
        SystemExit: with code 2 for wrong usage, said on stderr, and 0 where help or the version was asked for.
    """
    try:
        with _written_out():
            return _answer(_parse(argv))
    except OSError as error:
        if error.errno == errno.EPIPE:
            return _UNREAD
        return _fail(f"standard output: {error.strerror}", error, 1)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the function that answers it in `run`."""
    parser = argparse.ArgumentParser(prog="latentserve", description="Call a latentserve server.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('latentserve-client')}")
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"default ${_SERVER_VARIABLE}, else {_SERVER}; for admin ${_ADMIN_SERVER_VARIABLE}, else {_ADMIN_SERVER}",
    )
    parser.add_argument("--timeout", type=seconds, default=30.0, help="seconds that one call may take; default 30")
    add_tls(parser)
    # No option takes the token itself: every user of the machine sees command lines.
    text = f"file of the token that tells the server who calls; default ${_TOKEN_VARIABLE}, else none"
    parser.add_argument("--token-file", metavar="FILE", help=text)
    text = "send it to another machine without TLS, where the network itself is encrypted"
    parser.add_argument("--token-in-plain-text", action="store_true", help=text)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (models, sample, images, walk, score, compare):
        module.add_to(commands)
    models.add_admin_to(commands)
    args = parser.parse_args(argv)
    try:
        args.server = check_address(args.server or _default_server(args.command))
        args.tls = read_tls(args)
        args.token_file = args.token_file or os.environ.get(_TOKEN_VARIABLE)
        if "check" in args:
            args.check(args)
    except RequestError as error:
        parser.error(str(error))
    return args


def _default_server(command: str) -> str:
    """The server of a command line that names none."""
    variable, address = (_ADMIN_SERVER_VARIABLE, _ADMIN_SERVER) if command == "admin" else (_SERVER_VARIABLE, _SERVER)
    return os.environ.get(variable) or address


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
    except UnauthenticatedError as error:
        whose = f"the token in {args.token_file} is not valid" if args.token_file else "--token-file names one"
        return _fail(f"{error}; {whose}", error, 1)
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
    token = TokenFile(args.token_file) if args.token_file else None
    options: dict[str, Any] = {"timeout": args.timeout, "tls": args.tls, "token": token}
    options["token_in_plain_text"] = args.token_in_plain_text
    if args.command == "admin":
        with AdminClient(args.server, **options) as admin_client:
            return models.admin(admin_client, args)
    with Client(args.server, **options) as client:
        try:
            outcome: Outcome = args.run(client, args)
        except NotFoundError as error:
            with suppress(LatentServeError):
                error.add_note(f"the server has {models.list_names(client.models())}")
            raise
        return outcome


def _fail(message: str, error: BaseException, code: int) -> int:
    """Print the message and the error's notes in one line; returns the exit code."""
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
