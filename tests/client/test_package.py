"""The package's surface and what importing it brings along."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

import latentserve_client
from latentserve_client import AdminClient, AsyncAdminClient, AsyncClient, Client


def test_the_public_names_are_the_listed_ones() -> None:
    public = {
        name
        for name, value in vars(latentserve_client).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(latentserve_client.__all__)
    assert len(latentserve_client.__all__) == len(public)


def test_the_two_clients_have_the_same_calls() -> None:
    def calls(client: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(client, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in methods if name[0] != "_"}

    assert calls(Client) == calls(AsyncClient)
    about_models, from_noise = {"models", "model"}, {"sample", "stream_samples"}
    through_the_model = {"encode", "decode", "reconstruct", "interpolate", "traverse", "score"}
    assert set(calls(Client)) == {"close"} | about_models | from_noise | through_the_model


@pytest.mark.parametrize("client", [Client, AsyncClient, AdminClient, AsyncAdminClient])
def test_help_tells_of_every_argument(client: type) -> None:
    for name, method in inspect.getmembers(client, inspect.isfunction):
        if name[0] == "_" or name == "close":
            continue
        shown = pydoc.plain(pydoc.render_doc(method))
        _, *parameters = inspect.signature(method).parameters
        assert [parameter for parameter in parameters if f"        {parameter}: " not in shown] == []
        assert "Exchange" not in shown
        assert "RequestError: " in shown


def test_the_asyncio_client_is_awaited() -> None:
    calls = {name for name, _ in inspect.getmembers(AsyncClient, inspect.iscoroutinefunction) if name[0] != "_"}
    assert calls == {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_"} - {
        "stream_samples"
    }


def imported_by(module: str) -> set[str]:
    """The packages that a new process has imported after the module."""
    program = f"import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_brings_no_model_runtime() -> None:
    unwanted = {"onnxruntime", "torch", "onnx", "latentserve_server", "latentserve_training"}
    assert imported_by("latentserve_client.cli.main").isdisjoint(unwanted)


def test_importing_the_client_brings_nothing_of_the_command_line() -> None:
    assert imported_by("latentserve_client").isdisjoint({"argparse", "tqdm", "PIL", "csv"})
