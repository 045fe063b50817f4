"""ModelAdminService: loads, unloads, aliases and rescans."""

from __future__ import annotations

from latentserve.contract import NAME
from latentserve.v1 import models_pb2 as pb
from latentserve_server.api.models import list_models, model_status
from latentserve_server.errors import InvalidArgument
from latentserve_server.repository.repository import Repository
from latentserve_server.wire.exchange import Exchange


class ModelAdminServicer:
    """Answers ModelAdminService with the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def Load(self, request: pb.LoadRequest, context: Exchange) -> pb.LoadResponse:
        """Load a version."""
        entry = await self._repository.load(request.name, _version(request.version))
        return pb.LoadResponse(model=model_status(self._repository, entry))

    async def Unload(self, request: pb.UnloadRequest, context: Exchange) -> pb.UnloadResponse:
        """Take a version out of service."""
        await self._repository.unload(request.name, _version(request.version))
        return pb.UnloadResponse()

    async def SetAlias(self, request: pb.SetAliasRequest, context: Exchange) -> pb.SetAliasResponse:
        """Make or move an alias."""
        alias, version = _alias(request.alias), _version(request.version)
        return pb.SetAliasResponse(stored=await self._repository.set_alias(request.name, alias, version))

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Exchange) -> pb.DeleteAliasResponse:
        """Delete an alias."""
        alias = _alias(request.alias)
        return pb.DeleteAliasResponse(stored=await self._repository.set_alias(request.name, alias, None))

    async def Rescan(self, request: pb.RescanRequest, context: Exchange) -> pb.RescanResponse:
        """Scan the repository, and apply what has changed."""
        problems = await self._repository.rescan(by_order=True)
        return pb.RescanResponse(models=list_models(self._repository), problems=problems)


def _version(version: int) -> int:
    if version < 1:
        raise InvalidArgument("version", f"{version}; versions are at least 1")
    return version


def _alias(alias: str) -> str:
    if not NAME.fullmatch(alias):
        shown = alias if len(alias) <= 128 else f"{alias[:128]}..."
        raise InvalidArgument(
            "alias", f"{shown!r} is not 1 to 128 letters, digits, '_', '.' and '-', the first neither '.' nor '-'"
        )
    return alias
