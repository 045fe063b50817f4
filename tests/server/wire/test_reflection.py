"""Reflection tells what can be called on a port, under both of its names."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from admin_server import AdminServer
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb
from running_server import RunningServer

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
SERVICES = {
    "latentserve.v1.GenerationService",
    "latentserve.v1.ModelService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
    *NAMES,
}


async def asked(channel: grpc.aio.Channel, name: str, **question: Any) -> pb.ServerReflectionResponse:
    """The answer to one question."""
    ask: Any = channel.stream_stream(
        f"/{name}/ServerReflectionInfo",
        pb.ServerReflectionRequest.SerializeToString,
        pb.ServerReflectionResponse.FromString,
    )
    (answer,) = [answer async for answer in ask(iter([pb.ServerReflectionRequest(**question)]))]
    assert isinstance(answer, pb.ServerReflectionResponse)
    return answer


async def listed(channel: grpc.aio.Channel, name: str) -> set[str]:
    answer = await asked(channel, name, list_services="")
    return {service.name for service in answer.list_services_response.service}


@pytest.mark.parametrize("name", NAMES)
async def test_the_services_are_listed_and_described(served: RunningServer, name: str) -> None:
    assert await listed(served.channel, name) == SERVICES
    for service in SERVICES:
        answer = await asked(served.channel, name, file_containing_symbol=service)
        files = [FileDescriptorProto.FromString(file) for file in answer.file_descriptor_response.file_descriptor_proto]
        assert service in {f"{file.package}.{declared.name}" for file in files for declared in file.service}
        names = {file.name for file in files}
        assert {imported for file in files for imported in file.dependency} <= names


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_not_there_is_not_found(served: RunningServer, name: str) -> None:
    for question in ({"file_containing_symbol": "no.such.Service"}, {"file_by_filename": "no/such.proto"}):
        answer = await asked(served.channel, name, **question)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("name", NAMES)
async def test_the_admin_port_tells_of_its_own_service(server: AdminServer, name: str) -> None:
    assert await listed(server.channel, name) == {"latentserve.v1.ModelAdminService", *NAMES}
