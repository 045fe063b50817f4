"""At start several models load at once, as many as there are processors."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from held_graph import BACKSTOP_SECONDS
from running_server import running_server
from tiny_bundle import TinyModel

from latentserve.v1 import models_pb2
from latentserve_server.available_cpus import available_cpus
from latentserve_server.errors import DeviceError
from latentserve_server.repository.store import LocalStore


class MeetingStore(LocalStore):
    """The models of a directory, of which none is fetched before so many are asked for."""

    def __init__(self, root: Path, models: int) -> None:
        super().__init__(root)
        self._all_asked = threading.Barrier(models)

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """Wait for the others."""
        self._all_asked.wait(BACKSTOP_SECONDS)
        return super().fetch(name, version, digest)


class DeadDevice(LocalStore):
    """The models of a directory, none of which opens, as on a device that does not work."""

    def fetch(self, name: str, version: int, digest: str) -> Path:
        """Fail for the device."""
        raise DeviceError(f"{name} is opened on another device")


@pytest.mark.cpu_only("on CUDA one model loads at a time")
@pytest.mark.skipif(available_cpus() < 2, reason="one model loads at a time on one processor")
async def test_models_load_at_once_at_start(tmp_path: Path) -> None:
    for name in ("a", "b"):
        TinyModel().write(tmp_path / name / "1")
    async with running_server(tmp_path, store=MeetingStore(tmp_path, models=2)) as served:
        described = await served.models.ListModels(models_pb2.ListModelsRequest())
        assert [model.state for model in described.models] == [models_pb2.MODEL_STATE_READY] * 2


async def test_a_device_that_does_not_work_ends_the_start_as_for_one_model(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        TinyModel().write(tmp_path / name / "1")
    with pytest.raises(DeviceError, match="is opened on another device"):
        async with running_server(tmp_path, store=DeadDevice(tmp_path)):
            pass
