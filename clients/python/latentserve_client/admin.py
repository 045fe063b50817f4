"""The blocking client of a server's admin listener."""

from __future__ import annotations

from typing import Unpack

from latentserve.v1 import models_pb2, models_pb2_grpc
from latentserve_client import _admin_requests
from latentserve_client._connection import Connection
from latentserve_client.model_info import ModelStatus, Rescanned
from latentserve_client.model_ref import ModelLike
from latentserve_client.options import CallOptions


class AdminClient(Connection):
    """Changes what a server serves, on its admin listener.

    Arguments and errors are Client's; `target` is the address of `--admin-listen`. No call is tried again, for a change
    whose reply was lost may have been made. A change waits for models to load and to end: give it a long `timeout`.
    """

    def load(self, model: ModelLike, **call: Unpack[CallOptions]) -> ModelStatus:
        """Make the version that `model` names, as "digits:3", READY, and keep it whatever the version policy.

        Returns once it is READY. Where it cannot be loaded, a FailedPreconditionError says why and nothing changes.
        """
        request = _admin_requests.build_load(model)
        response, _ = self._call("Load", self._admin.Load, request, **call)
        return _admin_requests.parse_load(response)

    def unload(self, model: ModelLike, **call: Unpack[CallOptions]) -> None:
        """Take the version that `model` names out of service, whatever the version policy.

        Returns once its last call is answered. Refused for a version that an alias points to.
        """
        self._call("Unload", self._admin.Unload, _admin_requests.build_unload(model), **call)

    def set_alias(self, model: ModelLike, alias: str, **call: Unpack[CallOptions]) -> bool:
        """Make the alias, or move it, to the READY version that `model` names.

        Returns whether that was stored in the repository; where that is read-only, the alias ends with the server.
        """
        request = _admin_requests.build_set_alias(model, alias)
        response, _ = self._call("SetAlias", self._admin.SetAlias, request, **call)
        return response.stored

    def delete_alias(self, model: ModelLike, **call: Unpack[CallOptions]) -> bool:
        """Delete the alias that `model` names, as "digits@stable"; returns whether the repository was changed."""
        request = _admin_requests.build_delete_alias(model)
        response, _ = self._call("DeleteAlias", self._admin.DeleteAlias, request, **call)
        return response.stored

    def rescan(self, **call: Unpack[CallOptions]) -> Rescanned:
        """Have the server read the repository again and follow it; returns once everything is loaded or has failed."""
        response, _ = self._call("Rescan", self._admin.Rescan, models_pb2.RescanRequest(), **call)
        return _admin_requests.parse_rescan(response)

    @property
    def _admin(self) -> models_pb2_grpc.ModelAdminServiceStub:
        return models_pb2_grpc.ModelAdminServiceStub(self._channel)
