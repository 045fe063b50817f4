"""Calls a server with tritonclient, unmodified, and writes down what came of it. Runs in tritonclient's environment.

    tritonclient_calls.py MODE ADDRESS FOLDER

reads FOLDER/inputs.npz, and writes FOLDER/outputs.npz and FOLDER/report.json. MODE is "sync", "aio" or "stream"; "tls",
which reads FOLDER/ca.crt, FOLDER/tls.crt and FOLDER/tls.key, too; "token", which reads FOLDER/token.txt, too; or
"descriptors", which calls nothing and writes tritonclient's copy of the protocol to FOLDER/descriptors.binpb.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

CASES = {"vae": "latent", "vae.encoder": "image", "vae.reconstruct": "image"}
"""Models, and the name of their input."""

MODULES = (service_pb2, model_config_pb2)
WAIT_SECONDS = 30


def input_of(name: str, array: np.ndarray) -> triton.InferInput:
    """The array as tritonclient sends it."""
    tensor = triton.InferInput(name, list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return tensor


def outputs_of(result: triton.InferResult) -> dict[str, np.ndarray]:
    """Every output of a result."""
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def problem_of(error: InferenceServerException) -> list[str | None]:
    """What a caller sees of an error."""
    return [error.status(), error.message()]


def call_sync(address: str, inputs: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """Every call of the blocking client."""
    outputs = {}
    with triton.InferenceServerClient(address) as client:
        report: dict[str, Any] = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "models": {name: client.is_model_ready(name) for name in (*CASES, "nix")},
            "version 2": client.is_model_ready("vae", "2"),
            "server": client.get_server_metadata(as_json=True),
            "metadata": {name: client.get_model_metadata(name, as_json=True) for name in CASES},
            "config": {name: client.get_model_config(name, as_json=True)["config"] for name in CASES},
            "index": client.get_model_repository_index(as_json=True)["models"],
        }
        for model, name in CASES.items():
            result = client.infer(
                model, [input_of(name, inputs[name])], request_id="r1", priority=1, timeout=20_000_000
            )
            report[model] = [result.get_response().id, result.get_response().model_version]
            outputs |= {f"{model}/{output}": array for output, array in outputs_of(result).items()}
        some = [triton.InferRequestedOutput("logits"), triton.InferRequestedOutput("image")]
        latents = [input_of("latent", inputs["latent"])]
        report["some"] = list(outputs_of(client.infer("vae", latents, outputs=some)))
        zipped = client.infer("vae", latents, model_version="1", compression_algorithm="gzip")
        outputs["zipped"] = zipped.as_numpy("image")
        report["statistics"] = client.get_inference_statistics("vae", as_json=True)["model_stats"]
        answers: queue.Queue[Any] = queue.Queue()
        client.async_infer("vae", latents, lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=WAIT_SECONDS)
        report["async"] = error
        outputs["async"] = result.as_numpy("image")
        wide = [input_of("latent", np.zeros((1, 99), np.float32))]
        shared = triton.InferInput("latent", [1, 3], "FP32")
        shared.set_shared_memory("region", 12)
        refused = {
            "unknown model": lambda: client.infer("nix", latents),
            "wrong shape": lambda: client.infer("vae", wide),
            "shared memory": lambda: client.infer("vae", [shared]),
            "classification": lambda: client.infer(
                "vae", latents, outputs=[triton.InferRequestedOutput("image", class_count=2)]
            ),
            "load": lambda: client.load_model("vae"),
            "unload": lambda: client.unload_model("vae"),
            "trace": lambda: client.get_trace_settings("vae"),
        }
        report["refused"] = {}
        for case, call in refused.items():
            try:
                call()
            except InferenceServerException as error:
                report["refused"][case] = problem_of(error)
    return report, outputs


async def call_aio(address: str, inputs: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """The calls of the asyncio client, its stream included."""
    outputs = {}
    async with triton_aio.InferenceServerClient(address) as client:
        report: dict[str, Any] = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "models": {name: await client.is_model_ready(name) for name in (*CASES, "nix")},
        }
        results = await asyncio.gather(
            *(client.infer(model, [input_of(name, inputs[name])]) for model, name in CASES.items())
        )
        for model, result in zip(CASES, results, strict=True):
            outputs |= {f"{model}/{output}": array for output, array in outputs_of(result).items()}

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for model in ("vae", "nix", "vae"):
                yield {"model_name": model, "inputs": [input_of("latent", inputs["latent"])], "request_id": model}

        streamed = [answer async for answer in client.stream_infer(requests())]
        report["stream"] = [
            error.message() if error else result.get_response().model_name for result, error in streamed
        ]
        outputs["stream"] = streamed[2][0].as_numpy("image")
    return report, outputs


def call_stream(address: str, inputs: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    """The stream of the blocking client."""
    answers: queue.Queue[Any] = queue.Queue()
    latents = inputs["latent"]
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for row in range(len(latents)):
            client.async_stream_infer(
                "vae",
                [input_of("latent", latents[row : row + 1])],
                request_id=str(row),
                enable_empty_final_response=True,
            )
        client.async_stream_infer("vae", [input_of("latent", latents[:0])])
        client.async_stream_infer("vae", [input_of("latent", latents)], request_id="last")
        taken = [answers.get(timeout=WAIT_SECONDS) for _ in range(len(latents) + 2)]
        client.stop_stream()
    results = [result.get_response() for result, error in taken if error is None]
    report = {
        "ids": [result.id for result in results],
        "final": [result.parameters["triton_final_response"].bool_param for result in results],
        "errors": [[position, error.message()] for position, (_, error) in enumerate(taken) if error is not None],
    }
    rows = [result.as_numpy("image") for result, error in taken[:-1] if error is None]
    return report, {"rows": np.concatenate(rows), "last": taken[-1][0].as_numpy("image")}


def call_tls(address: str, inputs: dict[str, np.ndarray], folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """One call by TLS, with a certificate of the caller's own."""
    ca, key, certificate = (str(folder / name) for name in ("ca.crt", "tls.key", "tls.crt"))
    secured = {"ssl": True, "root_certificates": ca, "private_key": key, "certificate_chain": certificate}
    with triton.InferenceServerClient(address, **secured) as client:
        result = client.infer("vae", [input_of("latent", inputs["latent"])])
    return result.get_response().model_version, {"vae/image": result.as_numpy("image")}


def call_with_token(address: str, inputs: dict[str, np.ndarray], folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """One call each of the blocking client, of its stream and of the asyncio client: with a token, and without."""
    latents = [input_of("latent", inputs["latent"])]
    token = {"authorization": f"Bearer {(folder / 'token.txt').read_text()}"}
    report: dict[str, Any] = {}
    outputs: dict[str, np.ndarray] = {}
    for case, headers in (("with", token), ("without", None)):
        calls = {
            "sync": lambda headers=headers: infer(address, latents, headers),
            "stream": lambda headers=headers: infer_by_stream(address, latents, headers),
            "aio": lambda headers=headers: asyncio.run(infer_aio(address, latents, headers)),
        }
        for client, call in calls.items():
            try:
                outputs[f"{client} {case}"] = call().as_numpy("image")
            except InferenceServerException as error:
                report[f"{client} {case}"] = problem_of(error)
    return report, outputs


Headers = dict[str, str] | None


def infer(address: str, latents: list[triton.InferInput], headers: Headers) -> triton.InferResult:
    """A call of the blocking client."""
    with triton.InferenceServerClient(address) as client:
        return client.infer("vae", latents, headers=headers)


def infer_by_stream(address: str, latents: list[triton.InferInput], headers: Headers) -> triton.InferResult:
    """A request in a stream, which may be refused as a whole before the request is asked for."""
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
        with suppress(InferenceServerException):  # says only that the stream has ended
            client.async_stream_infer("vae", latents)
        result, error = answers.get(timeout=WAIT_SECONDS)
    if error is not None:
        raise error
    return result


async def infer_aio(address: str, latents: list[triton.InferInput], headers: Headers) -> triton.InferResult:
    """A call of the asyncio client."""
    async with triton_aio.InferenceServerClient(address) as client:
        return await client.infer("vae", latents, headers=headers)


def main() -> None:
    """Do what the arguments say."""
    mode, address, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if mode == "descriptors":
        files = [descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in MODULES]
        (folder / "descriptors.binpb").write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
        return
    with np.load(folder / "inputs.npz") as archive:
        inputs = dict(archive)
    match mode:
        case "sync":
            report, outputs = call_sync(address, inputs)
        case "aio":
            report, outputs = asyncio.run(call_aio(address, inputs))
        case "stream":
            report, outputs = call_stream(address, inputs)
        case "tls":
            report, outputs = call_tls(address, inputs, folder)
        case "token":
            report, outputs = call_with_token(address, inputs, folder)
    (folder / "report.json").write_text(json.dumps(report))
    np.savez(folder / "outputs.npz", **outputs)


if __name__ == "__main__":
    main()
