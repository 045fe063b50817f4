"""The command `admin`: changes of what a server serves."""

from __future__ import annotations

import argparse

from latentserve_client.admin import AdminClient
from latentserve_client.cli.models import list_models
from latentserve_client.cli.options import Commands, model_ref
from latentserve_client.cli.output import Outcome
from latentserve_client.errors import RequestError
from latentserve_client.models import ModelRef

_PROBLEMS_CODE = 3
_NOT_STORED = "; the repository was not changed, so that this ends with the server"


def add_to(commands: Commands) -> None:
    """Add the command, with its actions, to the command line."""
    parser = commands.add_parser("admin", help="change what is served, on the server's admin listener")
    parser.set_defaults(check=_check)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, form, text in (
        ("load", "NAME:VERSION", "make a version ready, and keep it"),
        ("unload", "NAME:VERSION", "take a version out of service"),
        ("set-alias", "NAME:VERSION", "make an alias for a version, or move it there"),
        ("delete-alias", "NAME@ALIAS", "delete an alias"),
    ):
        command = actions.add_parser(action, help=text)
        command.add_argument("model", type=model_ref, metavar=form, help="such as digits:3 or digits@stable")
        if action == "set-alias":
            command.add_argument("alias", metavar="ALIAS", help="the movable name, such as stable")
    actions.add_parser("rescan", help="read the repository again and follow it")


def _check(args: argparse.Namespace) -> None:
    """Refuse a model that is not of the form which the action takes."""
    if args.action == "delete-alias" and not args.model.alias:
        raise RequestError(f"admin delete-alias takes NAME@ALIAS, not {str(args.model)!r}")
    if args.action in ("load", "unload", "set-alias") and not args.model.version:
        raise RequestError(f"admin {args.action} takes NAME:VERSION, not {str(args.model)!r}")


def admin(client: AdminClient, args: argparse.Namespace) -> Outcome:
    """The change made, told in a line; after a load its version's line, and after a rescan the list of all.

    What made no sense to the server follows the list, and makes the exit code 3.
    """
    match args.action:
        case "load":
            return Outcome(list_models([client.load(args.model)]))
        case "unload":
            client.unload(args.model)
            return Outcome(f"{args.model} is unloaded")
        case "set-alias":
            stored = client.set_alias(args.model, args.alias)
            alias = ModelRef(args.model.name, alias=args.alias)
            return Outcome(f"{alias} is version {args.model.version}{'' if stored else _NOT_STORED}")
        case "delete-alias":
            stored = client.delete_alias(args.model)
            return Outcome(f"{args.model} is deleted{'' if stored else _NOT_STORED}")
        case _:
            scanned = client.rescan()
            text = "\n".join([list_models(scanned.models), *scanned.problems])
            return Outcome(text, _PROBLEMS_CODE if scanned.problems else 0)
