"""A graph that could read the server's files, draw noise, run without end or hide from the check is never opened."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from admin_server import READY, admin_server
from google.protobuf.descriptor import Descriptor
from model_shelf import Shelf, reconstruction
from onnx import TensorProto, helper, numpy_helper
from resigned import resign
from running_server import channel_to
from server_process import server_process
from tiny_bundle import Golden, TinyModel

from latentserve.onnx import outline_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

Problem = Callable[[Path], Awaitable[str]]
Edit = Callable[[onnx.ModelProto], None]


def add_node(operator: str, inputs: list[str], **attributes: Any) -> Edit:
    return lambda model: model.graph.node.append(helper.make_node(operator, inputs, ["unused"], **attributes))


def external_initializer(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


def external_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.UINT8, dims=[8], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="decoder.onnx")
    add_node("Constant", [], value=tensor)(model)


def external_sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[8])
    sparse.values.external_data.add(key="location", value="decoder.onnx")


def in_a_branch(edit: Edit) -> Edit:
    """The edit, made two branches deep."""

    def nested(model: onnx.ModelProto) -> None:
        graph = helper.make_graph([helper.make_node("Identity", ["latent"], ["y"])], "inner", [], [])
        inner = onnx.ModelProto(graph=graph)
        inner.graph.initializer.append(numpy_helper.from_array(np.zeros(1), "zeros"))
        edit(inner)
        branch = helper.make_node("If", ["latent"], ["z"], then_branch=inner.graph, else_branch=inner.graph)
        outer = helper.make_graph([branch], "outer", [], [])
        add_node("If", ["latent"], then_branch=outer, else_branch=outer)(model)

    return nested


def add_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("RandomNormalLike", ["x"], ["y"])]
    model.functions.append(helper.make_function("mine", "Noise", ["x"], ["y"], body, [helper.make_opsetid("", 18)]))


def learning(model: onnx.ModelProto) -> None:
    names = ["levels"] * 4
    node = helper.make_node("BatchNormalization", ["logits", *names], ["unused", "mean", "var"], training_mode=1)
    model.graph.node.append(node)


def set_opset(version: int, domain: str = "") -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        del model.opset_import[:]
        model.opset_import.append(helper.make_opsetid(domain, version))

    return edit


def other_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    add_node("FusedMatMul", ["latent", "latent"], domain="com.microsoft")(model)


OUTSIDE = "the graph has values outside its file; external data is not allowed"
WEIGHT_OUTSIDE = OUTSIDE.replace(";", " ('decoder_weight');")
FUNCTIONS = "the graph has functions or training information, which a bundle's may not have"
BODY = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "body", [], [])


def noise(operator: str) -> str:
    return f"the graph's operator {operator!r} at 'unused' draws random numbers; noise is an input"


def loop(operator: str) -> str:
    return f"the graph's operator {operator!r} at 'unused' loops, so its run may have no end"


def set_ir(version: int) -> Edit:
    return lambda model: setattr(model, "ir_version", version)


def versions(opset: str, ir: str = "10") -> str:
    return (
        f"the graph's IR version is {ir} and its operator set {opset}; allowed are IR versions 3 to 13 and "
        "operator sets 7 to 26"
    )


REFUSED: list[tuple[Edit, str]] = [
    (external_initializer, WEIGHT_OUTSIDE),
    (external_attribute, OUTSIDE),
    (external_sparse, OUTSIDE),
    (in_a_branch(external_initializer), WEIGHT_OUTSIDE.replace("decoder_weight", "zeros")),
    (add_node("RandomNormal", [], shape=[1]), noise("RandomNormal")),
    (add_node("RandomUniformLike", ["latent"]), noise("RandomUniformLike")),
    (add_node("Bernoulli", ["latent"]), noise("Bernoulli")),
    (add_node("Multinomial", ["latent"]), noise("Multinomial")),
    (add_node("Dropout", ["latent", "", "training"]), noise("Dropout")),
    (in_a_branch(add_node("RandomNormalLike", ["latent"])), noise("RandomNormalLike")),
    (add_node("Loop", ["", ""], body=BODY), loop("Loop")),
    (add_node("Scan", ["latent"], body=BODY, num_scan_inputs=1), loop("Scan")),
    (add_node("SequenceMap", ["latent"], body=BODY), loop("SequenceMap")),
    (in_a_branch(add_node("Loop", ["", ""], body=BODY)), loop("Loop")),
    (learning, "the graph's operator 'BatchNormalization' at 'unused' is in training mode; rows are independent"),
    (other_domain, "the graph's operator 'FusedMatMul' at 'unused' is of 'com.microsoft', not ONNX's own"),
    (add_function, FUNCTIONS),
    (lambda model: model.training_info.add(), FUNCTIONS),
    (set_opset(6), versions("6")),
    (set_opset(27), versions("27")),
    (set_opset(18, "com.microsoft"), versions("not stated")),
    (lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx", 19)), versions("18, 19")),
    (set_ir(2), versions("18", "2")),
    (set_ir(14), versions("18", "14")),
    (lambda model: model.ClearField("ir_version"), versions("18", "not stated")),
    (lambda model: model.Clear(), "the graph is not an ONNX model with operators"),
]


@pytest.mark.parametrize(("edit", "message"), REFUSED)
async def test_what_a_graph_may_not_hold_is_named(tmp_path: Path, problem: Problem, edit: Edit, message: str) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1", edit_decoder=edit)
    assert await problem(directory) == f"decoder: {message}"


async def test_dropout_that_draws_nothing_is_served(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.publish_written(1, lambda place: TinyModel().write(place, edit_decoder=add_node("Dropout", ["latent"])))
    async with admin_server(shelf) as server:
        assert await server.states() == {1: (READY, "")}
        assert await server.answering() == (1, 0)


def message(number: int, data: bytes) -> bytes:
    """A protobuf field that holds a message."""
    length = len(data)
    size = bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + data


async def test_branches_nested_without_end_are_refused(tmp_path: Path, problem: Problem) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    graph = b""
    for _ in range(2000):  # a node with an attribute that is a graph with a node
        graph = message(1, message(4, b"If") + message(5, message(6, graph)))
    resign(directory, "decoder.onnx", (directory / "decoder.onnx").read_bytes() + message(7, graph))
    assert await problem(directory) == "decoder: the graph is not an ONNX model"


@pytest.mark.parametrize("data", [b"not a graph", b"\xff" * 64, b""], ids=["text", "ones", "nothing"])
async def test_what_is_no_graph_is_named(tmp_path: Path, problem: Problem, data: bytes) -> None:
    directory = resign(TinyModel().write(tmp_path / "vae" / "1"), "decoder.onnx", data)
    assert (await problem(directory)).startswith("decoder: the graph is not an ONNX model")


async def test_a_graph_that_is_also_in_onnxruntimes_format_is_not_opened(tmp_path: Path, problem: Problem) -> None:
    directory = TinyModel().write(tmp_path / "vae" / "1")
    producer = b"\x12\x06..ORTM"  # ONNX's producer_name; and onnxruntime's mark of its own format, at bytes 4 to 7
    resign(directory, "decoder.onnx", producer + (directory / "decoder.onnx").read_bytes())
    assert await problem(directory) == "decoder: the graph is in onnxruntime's own format, not in ONNX's"


def spoil(image: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    """Let the node compute "image" of "true_image", which everything else goes on with."""

    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["true_image" if name == "image" else name for name in names]
        model.graph.node.append(image)

    return edit


@pytest.mark.parametrize(
    ("inputs", "scale", "message"),
    [
        (
            ["true_image", "levels"],
            255,
            "decoder: output 'image' has values from [0-9.]+ to [0-9.]+; 0 to 1 are allowed",
        ),
        (["true_image", "zero"], 0, "decoder: output 'image_uint8' is not 255 times 'image', rounded"),
    ],
)
async def test_images_that_are_none_are_refused_though_golden_rows_agree(
    tmp_path: Path, problem: Problem, inputs: list[str], scale: float, message: str
) -> None:
    def edit(model: onnx.ModelProto) -> None:
        spoil(helper.make_node("Mul", inputs, ["image"]))(model)
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))

    def edit_golden(golden: Golden) -> None:
        golden["decoder.image"] *= np.float32(scale)

    directory = TinyModel().write(tmp_path / "vae" / "1", edit_decoder=edit, edit_golden=edit_golden)
    assert re.fullmatch(message, await problem(directory))


async def test_outputs_that_are_not_finite_are_refused_though_golden_rows_agree(
    tmp_path: Path, problem: Problem
) -> None:
    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.output[0] == "logits":
                node.output[0] = "true_logits"
            node.input[:] = ["true_logits" if name == "logits" else name for name in node.input]
        model.graph.initializer.append(numpy_helper.from_array(np.float32(np.inf), "infinity"))
        model.graph.node.append(helper.make_node("Add", ["true_logits", "infinity"], ["logits"]))

    def edit_golden(golden: Golden) -> None:
        golden["decoder.logits"] += np.float32(np.inf)

    directory = TinyModel().write(tmp_path / "vae" / "1", edit_decoder=edit, edit_golden=edit_golden)
    assert await problem(directory) == "decoder: output 'logits' has values that are not finite, on the golden rows"


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four of them flipped, replaced, dropped or added."""
    spoilt = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(spoilt))
        match chance.randrange(4):
            case 0:
                spoilt[place] ^= 1 << chance.randrange(8)
            case 1:
                spoilt[place] = chance.choice((0, 1, 127, 128, 255))
            case 2:
                del spoilt[place : place + chance.randrange(1, 4)]
            case _:
                spoilt[place:place] = chance.randbytes(2)
    return bytes(spoilt)


@pytest.mark.parametrize("name", ["decoder.onnx", "golden.safetensors"])
async def test_damage_with_the_right_digest_is_a_reason_and_not_the_servers_end(tmp_path: Path, name: str) -> None:
    """The manifest is made to fit, so only what reads the files stands between the damage and the server."""
    healthy = TinyModel(height=2, width=2, latent_dim=1).write(tmp_path / "healthy")
    data, chance = (healthy / name).read_bytes(), random.Random(name)
    for version in range(1, 101):
        place = TinyModel(height=2, width=2, latent_dim=1).write(tmp_path / "models" / "vae" / str(version))
        resign(place, name, damaged(data, chance))
    TinyModel().write(tmp_path / "models" / "vae" / "101")
    async with server_process(tmp_path / "models", "--version-policy=all") as process:
        port = (await process.log("serving on port"))["port"]
        async with channel_to(port) as channel:
            stub = models_pb2_grpc.ModelServiceStub(channel)
            listed = (await stub.ListModels(models_pb2.ListModelsRequest())).models
            generation = generation_pb2_grpc.GenerationServiceStub(channel)
            reply = await generation.Reconstruct(reconstruction(pb.ModelRef(name="vae")))
        assert reply.served.version == 101
        reasons = [status.reason for status in listed if status.state == models_pb2.MODEL_STATE_UNAVAILABLE]
        assert len(reasons) > 50
        assert [reason for reason in reasons if "\n" in reason or "internal error" in reason] == []
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0


@pytest.mark.parametrize(
    ("outline", "full"),
    [
        ("Model", "ModelProto"),
        ("OperatorSet", "OperatorSetIdProto"),
        ("Graph", "GraphProto"),
        ("Node", "NodeProto"),
        ("Attribute", "AttributeProto"),
        ("Tensor", "TensorProto"),
        ("SparseTensor", "SparseTensorProto"),
        ("Value", "ValueInfoProto"),
        ("Type", "TypeProto"),
        ("TensorType", "TypeProto.Tensor"),
        ("Shape", "TensorShapeProto"),
        ("Dimension", "TensorShapeProto.Dimension"),
    ],
)
def test_the_outline_is_that_of_the_format(outline: str, full: str) -> None:
    named: Any = onnx
    for part in full.split("."):
        named = getattr(named, part)
    numbers = {field.name: (field.number, field.is_repeated) for field in named.DESCRIPTOR.fields}
    described: Descriptor = outline_pb2.DESCRIPTOR.message_types_by_name[outline]
    for field in described.fields:
        assert numbers[field.name] == (field.number, field.is_repeated)


def test_every_part_of_the_format_that_holds_a_tensor_or_a_graph_is_in_the_outline() -> None:
    held = ("TensorProto", "SparseTensorProto", "GraphProto", "NodeProto", "FunctionProto", "TrainingInfoProto")
    for outline, full in (("Graph", onnx.GraphProto), ("Node", onnx.NodeProto), ("Attribute", onnx.AttributeProto)):
        known = set(outline_pb2.DESCRIPTOR.message_types_by_name[outline].fields_by_name)
        fields = [field for field in full.DESCRIPTOR.fields if field.message_type and field.message_type.name in held]
        assert {field.name for field in fields} <= known
