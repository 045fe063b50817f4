"""The commands `models`, `model` and `admin`: what a server holds, and changes of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from latentserve_client.admin import AdminClient
from latentserve_client.cli.shared import Commands, Outcome, add_model, align, dimensions, model_ref, quantity
from latentserve_client.client import Client
from latentserve_client.errors import RequestError
from latentserve_client.models import ModelInfo, ModelRef, ModelState, ModelStatus

_SHOWN_NAMES = 10
_PROBLEMS_CODE = 3
_NOT_STORED = "; the repository was not changed, so that this ends with the server"

_HEADER = ("NAME", "VERSION", "STATE", "DEFAULT", "ALIASES", "CAPABILITIES", "MEMORY", "REASON")


def add_to(commands: Commands) -> None:
    """Add `models` and `model` to the command line."""
    commands.add_parser("models", help="list every version of every model").set_defaults(run=models)
    parser = commands.add_parser("model", help="describe one model")
    add_model(parser)
    parser.set_defaults(run=model)


def add_admin_to(commands: Commands) -> None:
    """Add `admin`, with its actions, to the command line."""
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


def models(client: Client, args: argparse.Namespace) -> Outcome:
    """Every version of every model, in a table."""
    return Outcome(list_models(client.models()))


def model(client: Client, args: argparse.Namespace) -> Outcome:
    """One version, fact by fact."""
    return Outcome(describe_model(client.model(args.model)))


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


def list_models(models: Sequence[ModelStatus]) -> str:
    """One line a model version, in aligned columns."""
    if not models:
        return "the server has no models"
    rows = [
        (
            status.name,
            str(status.version),
            status.state,
            "yes" if status.is_default else "-",
            ",".join(status.aliases) or "-",
            ",".join(status.capabilities) or "-",
            f"{status.memory_bytes / (1 << 20):.1f} MiB" if status.memory_bytes else "-",
            " ".join(status.reason.split()) or "-",
        )
        for status in models
    ]
    return align([_HEADER, *rows])


def list_names(models: Sequence[ModelStatus]) -> str:
    """The models with their versions that are READY and their aliases, on a line: "digits (1 @stable, 2)"."""
    versions: dict[str, list[str]] = {}
    for status in models:
        if status.state == ModelState.READY:
            words = [str(status.version), *(f"@{alias}" for alias in status.aliases)]
            versions.setdefault(status.name, []).append(" ".join(words))
    shown = [f"{name} ({', '.join(of)})" for name, of in list(versions.items())[:_SHOWN_NAMES]]
    more = [f"{len(versions) - _SHOWN_NAMES} more"] if len(versions) > _SHOWN_NAMES else []
    return ", ".join([*shown, *more]) or "no model that is ready"


def describe_model(info: ModelInfo) -> str:
    """One line a fact, names to the left: what it is, where it runs, what it takes, how it was trained."""
    channels, height, width = info.image_shape
    limits, provenance = info.limits, info.manifest.provenance
    facts = [
        ("model", f"{info.name}:{info.version}"),
        ("aliases", ", ".join(info.aliases) or "-"),
        ("kind", info.kind),
        ("capabilities", ", ".join(info.capabilities)),
        ("device", info.device),
        ("precision", info.precision or "-"),
        ("numerics", _numerics(info)),
        ("latent", dimensions(info)),
        ("prior", _priors(info)),
        *([("psi", f"{psi.least:g} to {psi.most:g}, default {psi.default:g}")] if (psi := info.psi) else []),
        ("likelihood", info.likelihood.replace("_", " ") or "-"),
        ("labels", _labels(info)),
        ("calibration", f"{info.calibration_images} images" if info.calibration_images else "-"),
        ("image", f"{channels} x {height} x {width}, values {info.value_range[0]:g} to {info.value_range[1]:g}"),
        ("limits", f"{limits.max_rows_per_request} rows a call, {limits.max_batch_rows} a batch"),
        ("", f"{limits.max_queue_rows} rows waiting, {limits.max_message_bytes} bytes a message"),
        ("noise", info.noise_scheme),
        ("family", provenance.family or "-"),
        ("dataset", provenance.dataset or "-"),
        ("license", info.manifest.license or "-"),
        ("digest", info.digest),
        *((name, f"{value:g}") for name, value in sorted(info.manifest.metrics.items())),
    ]
    return align(facts)


def _priors(info: ModelInfo) -> str:
    """What it samples from, the default first."""
    there = {"standard_normal": "standard normal"} if info.kind in ("vae", "gan") else {}
    if info.mixture_components:
        there["mixture"] = f"a mixture of {quantity(info.mixture_components, 'component')}"
    if info.noise_dim:
        there["graph"] = f"a graph of noise of {quantity(info.noise_dim, 'dimension')}"
    default = there.pop(info.prior, info.prior.replace("_", " "))
    return ", or ".join([default or "-", *there.values()])


def _numerics(info: ModelInfo) -> str:
    if info.row_bits == "batch_dependent":
        return "none promised: the last bits of a row depend on its batch"
    return info.numerics or "-"


def _labels(info: ModelInfo) -> str:
    if not info.labels:
        return "-"
    shown = ", ".join(info.label_names[:_SHOWN_NAMES]) + (", ..." if len(info.label_names) > _SHOWN_NAMES else "")
    return f"0 to {info.labels - 1}" + (f": {shown}" if shown else "")
