"""Changes of what a server serves."""

from __future__ import annotations

import argparse

from latentserve_client.admin import AdminClient
from latentserve_client.cli.models import list_models
from latentserve_client.cli.outcome import Outcome
from latentserve_client.models import ModelRef

_PROBLEMS_CODE = 3
_NOT_STORED = "; the repository was not changed, so that this ends with the server"


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
