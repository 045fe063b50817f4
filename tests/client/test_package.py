"""The package's surface and what importing it brings along."""

from __future__ import annotations

import inspect
import subprocess
import sys

import latentserve_client
from latentserve_client import AsyncClient, Client


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


def test_importing_brings_no_model_runtime() -> None:
    program = "import latentserve_client.cli.main, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    unwanted = {"onnxruntime", "torch", "onnx", "latentserve_server", "latentserve_training"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()).isdisjoint(unwanted)
