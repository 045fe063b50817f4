"""The beginning of a reply with raw outputs: all of it but the request's id and the bytes of the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from latentserve.oip import inference_pb2 as pb
from latentserve_server.api.oip.model_names import Part
from latentserve_server.api.oip.models import InferenceModel
from latentserve_server.api.oip.tensors import describe_outputs
from latentserve_server.engine import TensorSpec
from latentserve_server.model.served_model import ServedModel

_MOST = 1024
"""Beginnings that are kept of one model version; callers choose their rows and outputs."""

_Key = tuple[Part, int, tuple[str, ...]]


class ReplyHeads:
    """The beginnings of replies, each made once: those of one model version, rows and outputs begin alike."""

    def __init__(self) -> None:
        self._heads: WeakKeyDictionary[ServedModel, dict[_Key, bytes]] = WeakKeyDictionary()

    def of(self, model: InferenceModel, rows: int, wanted: Sequence[TensorSpec], names: tuple[str, ...]) -> bytes:
        """The beginning of a reply of `rows` rows of the outputs `wanted`, whose names are `names`."""
        if (heads := self._heads.get(model.served)) is None:
            heads = self._heads[model.served] = {}
        key = model.part, rows, names
        if (head := heads.get(key)) is None:
            if len(heads) >= _MOST:
                heads.clear()
            response = pb.ModelInferResponse()
            _describe_model(response, model)
            describe_outputs(response, wanted, rows)
            head = heads[key] = response.SerializeToString()
        return head


def _describe_model(response: pb.ModelInferResponse, model: InferenceModel) -> None:
    identity = model.served.identity
    response.model_name, response.model_version = model.name, str(identity.version)
    if identity.numerics:
        response.parameters["numerics"].string_param = identity.numerics
