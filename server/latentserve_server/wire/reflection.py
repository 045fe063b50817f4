"""gRPC's reflection service, as v1 and as v1alpha.

grpcio-reflection 1.85 has v1alpha alone, while newer tools ask for v1 first. The two differ in their package's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from latentserve_server.wire.answering import Answering
from latentserve_server.wire.services import methods_of

_V1ALPHA = reflection.SERVICE_NAME
_V1 = _V1ALPHA.replace("v1alpha", "v1")
SERVICES = (_V1, _V1ALPHA)


def add_reflection(services: Iterable[str], answering: Answering) -> None:
    """Have it describe these services and reflection itself."""
    names = (*services, *SERVICES)
    servicer = reflection.aio.ReflectionServicer(names, pool=_pool(names))
    service: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    for name in SERVICES:
        answering.add_methods(methods_of(service, servicer, name=name, is_own=False))


def _pool(services: Iterable[str]) -> DescriptorPool:
    """The files of the services, and those that they import."""
    files: dict[str, FileDescriptorProto] = {}
    for name in services:
        _collect(Default().FindFileContainingSymbol(_V1ALPHA if name == _V1 else name), files)
    alpha = files[reflection_pb2.DESCRIPTOR.name]
    v1 = text_format.Parse(text_format.MessageToString(alpha).replace("v1alpha", "v1"), FileDescriptorProto())
    pool = DescriptorPool()
    for file in (*files.values(), v1):
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _collect(descriptor: FileDescriptor, files: dict[str, FileDescriptorProto]) -> None:
    """Put the file into `files`, after those that it imports."""
    for imported in descriptor.dependencies:
        _collect(imported, files)
    if descriptor.name not in files:
        files[descriptor.name] = FileDescriptorProto()
        descriptor.CopyToProto(files[descriptor.name])
