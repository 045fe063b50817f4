"""What is said of the bits that a version computes: whether a row's depend on its batch, and their fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from running_server import DEFAULTS, RunningServer, running_server
from safetensors.numpy import load_file
from tiny_bundle import TinyModel

from latentserve.v1 import generation_pb2, models_pb2
from latentserve_server.errors import ConfigError

pytestmark = pytest.mark.cpu_only("the same bits in batches of any size are promised on the CPU alone")

VAE = generation_pb2.ModelRef(name="vae")
ODD = TinyModel(height=3, width=7, seed=3)
METRICS = {"metrics_listen": "127.0.0.1:0"}


async def described(served: RunningServer) -> models_pb2.Model:
    return (await served.models.GetModel(models_pb2.GetModelRequest(model=VAE))).model


async def numerics_of(repository: Path, **options: Any) -> str:
    async with running_server(repository, **options) as served:
        return (await described(served)).numerics


def open_alone(model: bytes | Path) -> onnxruntime.InferenceSession:
    """A session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def add_to_logits(decoder: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Have what makes `logits` make `plain_logits` instead, from which the nodes make it."""
    place = next(i for i, node in enumerate(decoder.graph.node) if "logits" in node.output)
    decoder.graph.node[place].output[:] = ["plain_logits"]
    for offset, node in enumerate(nodes, start=1):
        decoder.graph.node.insert(place + offset, node)


def count_the_batch(decoder: onnx.ModelProto) -> None:
    """Add a millionth for every row of the batch: less than the golden rows notice."""
    decoder.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1e-6, np.float32), "millionth"))
    add_to_logits(
        decoder,
        onnx.helper.make_node("Shape", ["latent"], ["batch"], start=0, end=1),
        onnx.helper.make_node("Cast", ["batch"], ["rows_of_batch"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", ["rows_of_batch", "millionth"], ["millionths"]),
        onnx.helper.make_node("Add", ["plain_logits", "millionths"], ["logits"]),
    )


def go_through_softplus(decoder: onnx.ModelProto) -> None:
    """softplus(x) - softplus(-x), which is x but for the last bits; those depend on where x stands in its tensor."""
    add_to_logits(
        decoder,
        onnx.helper.make_node("Softplus", ["plain_logits"], ["positive"]),
        onnx.helper.make_node("Neg", ["plain_logits"], ["turned"]),
        onnx.helper.make_node("Softplus", ["turned"], ["negative"]),
        onnx.helper.make_node("Sub", ["positive", "negative"], ["logits"]),
    )


async def test_every_answer_names_the_fingerprint_of_its_version(repository: Path) -> None:
    async with running_server(repository, **METRICS) as served:
        model = await described(served)
        assert model.row_bits == models_pb2.ROW_BITS_BATCH_INVARIANT
        assert len(bytes.fromhex(model.numerics)) == 8
        listed = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
        assert [(one.row_bits, one.numerics) for one in listed if one.name == "vae"] == [
            (models_pb2.ROW_BITS_BATCH_INVARIANT, model.numerics)
        ]
        assert len({one.numerics for one in listed}) == len(listed) == 3
        reply = await served.generation.Sample(generation_pb2.SampleRequest(model=VAE, count=1))
        assert reply.served.numerics == model.numerics
        async for chunk in served.generation.StreamSamples(generation_pb2.StreamSamplesRequest(model=VAE, count=9)):
            assert chunk.served.numerics == model.numerics
        assert await served.metric("model_info", model="vae", version="1", numerics=model.numerics) == 1
        assert await served.metric("model_batch_invariant", model="vae", version="1") == 1


async def test_the_fingerprint_is_what_the_documentation_says(tmp_path: Path) -> None:
    directory = TinyModel(labels=3).write(tmp_path / "vae" / "1")
    digest = hashlib.sha256()
    golden = load_file(directory / "golden.safetensors")
    for role, outputs in (
        ("decoder", ["image", "image_uint8", "logits"]),
        ("encoder", ["log_variance", "mean"]),
    ):
        session = open_alone(directory / f"{role}.onnx")
        inputs = {value.name: golden[f"{role}.{value.name}"] for value in session.get_inputs()}
        for array in session.run(outputs, inputs):
            digest.update(array.tobytes())
    assert await numerics_of(tmp_path) == digest.hexdigest()[:16]


async def test_other_files_of_the_same_weights_have_the_same_fingerprint(tmp_path: Path) -> None:
    for repository, metrics, seed in (("one", 1.0, 0), ("same", 2.0, 0), ("other", 1.0, 1)):

        def tell(manifest: Any, metrics: float = metrics) -> None:
            manifest.metrics["test_nats"] = metrics

        TinyModel(seed=seed).write(tmp_path / repository / "vae" / "1", edit_manifest=tell)
    one, same, other = [await numerics_of(tmp_path / name) for name in ("one", "same", "other")]
    assert one == same != other


async def test_a_row_whose_bits_depend_on_its_batch_is_not_promised_to_keep_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = ODD.write(tmp_path / "vae" / "1", edit_decoder=count_the_batch)
    async with running_server(tmp_path, **METRICS) as served:
        model = await described(served)
        assert (model.row_bits, model.numerics) == (models_pb2.ROW_BITS_BATCH_DEPENDENT, "")
        (listed,) = (await served.models.ListModels(models_pb2.ListModelsRequest())).models
        assert listed.state == models_pb2.MODEL_STATE_READY
        assert (listed.row_bits, listed.numerics) == (models_pb2.ROW_BITS_BATCH_DEPENDENT, "")
        reply = await served.generation.Sample(generation_pb2.SampleRequest(model=VAE, count=2))
        assert reply.served.numerics == ""
        assert await served.metric("model_info", model="vae", numerics="") == 1
        assert await served.metric("model_batch_invariant", model="vae", version="1") == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning == f"{directory}: decoder: the last bits of a row depend on its batch: 'image' in a batch of 1"


SPOILED: dict[str, Callable[[onnx.ModelProto], None]] = {
    "as it is": lambda decoder: None,
    "counting its batch": count_the_batch,
    "going through softplus": go_through_softplus,
}


@pytest.mark.parametrize("edit", SPOILED.values(), ids=SPOILED)
async def test_the_server_says_of_rows_what_onnxruntime_does(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], None]
) -> None:
    directory = ODD.write(tmp_path / "vae" / "1", edit_decoder=edit)
    decoder = open_alone(directory / "decoder.onnx")
    golden = load_file(directory / "golden.safetensors")
    latents = golden["decoder.latent"]
    (together,) = decoder.run(["logits"], {"latent": latents})
    largest = np.arange(8) % len(latents)
    batches = [np.array([row]) for row in range(len(latents))] + [largest[:2], largest[:4], largest]
    same = all(
        np.array_equal(decoder.run(["logits"], {"latent": latents[rows]})[0], together[rows]) for rows in batches
    )
    async with running_server(tmp_path, max_batch_rows=8) as served:
        said = (await described(served)).row_bits
    expected = models_pb2.ROW_BITS_BATCH_INVARIANT if same else models_pb2.ROW_BITS_BATCH_DEPENDENT
    assert said == expected


CURVES = {
    "Softplus": "logits = Softplus(plain_logits)",
    "Mish": "logits = Mish(plain_logits)",
    "Selu": "logits = Selu(plain_logits)",
    "Elu": "logits = Elu(plain_logits)",
    "Sin": "logits = Sin(plain_logits)",
    "ReduceMean": "middle = ReduceMean<keepdims = 1>(plain_logits, sides)\n logits = Sub(plain_logits, middle)",
    "Relu": "logits = Relu(plain_logits)",
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("curve", CURVES)
async def test_what_is_promised_of_rows_holds_for_others_than_the_golden_ones(
    tmp_path: Path, curve: str, seed: int
) -> None:
    """Kernels round what is left at the end of a tensor otherwise, but not every value: a few rows may not show it."""
    bent = onnx.ModelProto()

    def bend(decoder: onnx.ModelProto) -> None:
        graph = onnx.parser.parse_graph(f"g (float[n] plain_logits) => (float[n] logits) {{ {CURVES[curve]} }}")
        add_to_logits(decoder, *graph.node)
        decoder.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3]), "sides"))
        bent.CopyFrom(decoder)

    def redraw(golden: Any) -> None:
        names = ["image", "image_uint8", "logits"]
        drawn = open_alone(bent.SerializeToString()).run(names, {"latent": golden["decoder.latent"]})
        golden.update(zip((f"decoder.{name}" for name in names), drawn, strict=True))

    model = TinyModel(height=3, width=7, seed=seed)
    model.write(tmp_path / "vae" / "1", edit_decoder=bend, edit_golden=redraw)
    decoder = open_alone(bent.SerializeToString())
    latents = np.random.default_rng(seed).standard_normal((64, model.latent_dim), dtype=np.float32)
    (together,) = decoder.run(["logits"], {"latent": latents})
    keeps = all(
        np.array_equal(decoder.run(["logits"], {"latent": latents[i : i + size]})[0], together[i : i + size])
        for size in (1, 2, 3)
        for i in range(0, 65 - size, size)
    )
    async with running_server(tmp_path, max_batch_rows=64, cpu_threads=1) as served:
        promised = (await described(served)).row_bits == models_pb2.ROW_BITS_BATCH_INVARIANT
    assert keeps or not promised
    assert promised or curve != "Relu"


async def test_the_metrics_of_a_version_that_leaves_leave_with_it(tmp_path: Path) -> None:
    ODD.write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, **METRICS) as served:
        ODD.write(tmp_path / "vae" / "2")
        served.server.request_rescan()
        while await served.metric("model_batch_invariant", version="1") or not await served.metric("model_info"):
            pass
        assert await served.metric("model_batch_invariant") == await served.metric("model_info") == 1


async def test_portable_numerics_do_not_depend_on_threads(tmp_path: Path) -> None:
    TinyModel(conv=True, channels=3, height=16, width=16).write(tmp_path / "vae" / "1")
    shown = {await numerics_of(tmp_path, numerics="portable", cpu_threads=threads) for threads in (1, 2, 3, 5)}
    assert len(shown) == 1
    assert shown != {""}


async def test_portable_numerics_are_those_of_the_cpu(repository: Path) -> None:
    with pytest.raises(ConfigError, match=r"--numerics portable: is the CPU's; CUDA has no portable bits"):
        await numerics_of(repository, numerics="portable", device="cuda:0")
    async with running_server(repository, **(DEFAULTS | {"numerics": "portable", "device": "auto"})) as served:
        assert (await described(served)).device == "cpu"
