"""What the server holds."""

from __future__ import annotations

import argparse

from latentserve_client.client import Client
from latentserve_client.commands.outcome import Outcome
from latentserve_client.listing import describe_model, list_models


def models(client: Client, args: argparse.Namespace) -> Outcome:
    """Every version of every model, in a table."""
    return Outcome(list_models(client.models()))


def model(client: Client, args: argparse.Namespace) -> Outcome:
    """One version, fact by fact."""
    return Outcome(describe_model(client.model(args.model)))
