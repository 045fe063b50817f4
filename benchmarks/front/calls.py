"""The calls that are measured, and what onnxruntime itself answers to each."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import replace

import grpc
import numpy as np
import onnxruntime
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray

from front.load import GRPC_HEADERS, Call, frame
from front.models import Model
from front.peers import Peer
from front.processes import BenchError
from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2 as oip
from latentserve.v1 import bundle_pb2
from latentserve.v1 import generation_pb2 as pb
from latentserve_server.latent.noise import NoiseSource, Stream

SEED = 7
NATS = ("reconstruction_error", "kl")
"""Of a score: computed here in float64, sent as float32, and compared within SCORE_TOLERANCE."""
SCORE_TOLERANCE = 1e-4
"""Relative."""
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
GENERATION = "/latentserve.v1.GenerationService"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
MESSAGE_BYTES = [("grpc.max_receive_message_length", 64 << 20)]
UINT8 = pb.Output(format=pb.IMAGE_FORMAT_UINT8)

Arrays = dict[str, NDArray[np.generic]]


class Reference:
    """onnxruntime on one thread, and the inputs of all calls of one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self.pixels = np.random.default_rng(SEED).integers(0, 256, (1, *model.image_shape), dtype=np.uint8)

    def latents(self, rows: int) -> NDArray[np.float32]:
        """Those that a Sample of the seed draws; Triton is sent the same."""
        return NoiseSource().draw(SEED, 0, rows, self.model.latent_dim, Stream.PRIOR).copy()

    def run(self, role: str, array: NDArray[np.generic]) -> Arrays:
        """All outputs of a graph."""
        if role not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            graph = str(self.model.graph(role))
            self._sessions[role] = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        names = [name for name, _, _ in self.model.tensors(role, "outputs")]
        entry = self.model.tensors(role, "inputs")[0][0]
        return dict(zip(names, self._sessions[role].run(names, {entry: array}), strict=True))

    def images(self, rows: int) -> Arrays:
        """What a Sample or a decoder's ModelInfer is to answer."""
        return {"image_uint8": self.run("DECODER", self.latents(rows))["image_uint8"]}

    def posterior(self) -> Arrays:
        """What an Encode is to answer."""
        return self.run("ENCODER", self.pixels.astype(np.float32) / np.float32(255))

    def reconstruction(self) -> Arrays:
        """What a Reconstruct is to answer, its nats left out."""
        return {"image_uint8": self.run("DECODER", self.posterior()["mean"])["image_uint8"]}

    def score(self) -> Arrays:
        """The nats of a Score at the posterior mean, for a Bernoulli likelihood, in float64."""
        posterior = {name: array.astype(np.float64) for name, array in self.posterior().items()}
        mean, log_variance = posterior["mean"], posterior["log_variance"]
        logits = self.run("DECODER", self.posterior()["mean"])["logits"].astype(np.float64)
        error = np.logaddexp(0, logits) - logits * self.pixels / 255
        kl = (mean**2 + np.exp(log_variance) - log_variance - 1) / 2
        return {"reconstruction_error": error.sum((1, 2, 3)), "kl": kl.sum(1)}


def sample(peer: Peer, reference: Reference, rows: int, counts: bool = True) -> Call:
    """Sample of uint8 images; the answers are in the server's statistics, where it `counts` them."""
    name = reference.model.name
    expected = reference.images(rows)
    return _checked(f"Sample {name} {rows}", peer, f"{GENERATION}/Sample", _sample(name, rows), expected, counts)


def sample_floats(peer: Peer, reference: Reference, rows: int) -> Call:
    """Sample of float32 images."""
    name, expected = reference.model.name, {"image": reference.run("DECODER", reference.latents(rows))["image"]}
    request = _sample(name, rows, pb.IMAGE_FORMAT_FLOAT32)
    return _checked(f"Sample {name} {rows} float32", peer, f"{GENERATION}/Sample", request, expected)


def sample_body(name: str, rows: int) -> bytes:
    """A Sample of any model, as it is sent."""
    return frame(_sample(name, rows))


def infer(peer: Peer, reference: Reference, rows: int, counts: bool = True) -> Call:
    """The decoder's ModelInfer, of as many latents."""
    name, latents = reference.model.name, reference.latents(rows)
    request = _infer_request(name, "latent", "FP32", latents, ["image_uint8"])
    return _checked(f"{peer.name} ModelInfer {name} {rows}", peer, MODEL_INFER, request, reference.images(rows), counts)


def infer_elsewhere(peer: Peer, reference: Reference, rows: int) -> Call:
    """The same of a server without statistics; the bytes of its answers are counted."""
    return infer(peer, reference, rows, counts=False)


def post(peer: Peer, reference: Reference, rows: int) -> Call:
    """The decoder's images by HTTP and JSON, the latents in base64, which takes less time than lists of numbers."""
    latents, expected = reference.latents(rows), reference.images(rows)["image_uint8"].tobytes()
    name, body = f"{peer.name} {rows}", json.dumps({"latents": base64.b64encode(latents.tobytes()).decode()}).encode()
    headers = {"content-type": "application/json"}
    try:
        connection = http.client.HTTPConnection(peer.target, timeout=60)
        connection.request("POST", "/predict", body, headers)
        answer = connection.getresponse().read()
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{name}: {error}") from None
    if answer != expected:
        raise BenchError(f"{name}: image_uint8 is not what onnxruntime computes")
    sent = tuple(f"{key}: {value}" for key, value in headers.items())
    return Call(name, peer, "/predict", body, len(expected), counted=0, headers=sent, http1=True)


def infer_posterior(peer: Peer, reference: Reference) -> Call:
    """The encoder's ModelInfer, of one uint8 image."""
    return _infer_pixels(peer, reference, "encoder", reference.posterior())


def infer_reconstruction(peer: Peer, reference: Reference) -> Call:
    """The ModelInfer of encoder and decoder in a row, of one uint8 image."""
    return _infer_pixels(peer, reference, "reconstruct", reference.reconstruction())


def infer_score(peer: Peer, reference: Reference) -> Call:
    """The ModelInfer of the nats of one uint8 image."""
    nats = {name: array.reshape(-1, 1) for name, array in reference.score().items()}
    return _infer_pixels(peer, reference, "score", nats)


def encode(peer: Peer, reference: Reference) -> Call:
    """Encode of one uint8 image."""
    request = pb.EncodeRequest(model=_ref(reference), images=_images(reference))
    return _checked("Encode", peer, f"{GENERATION}/Encode", request, reference.posterior())


def reconstruct(peer: Peer, reference: Reference) -> Call:
    """Reconstruct of one uint8 image."""
    request = pb.ReconstructRequest(model=_ref(reference), images=_images(reference), output=UINT8)
    return _checked("Reconstruct", peer, f"{GENERATION}/Reconstruct", request, reference.reconstruction())


def score(peer: Peer, reference: Reference) -> Call:
    """Score of one uint8 image at its posterior mean."""
    request = pb.ScoreRequest(model=_ref(reference), images=_images(reference))
    return _checked("Score", peer, f"{GENERATION}/Score", request, reference.score())


def health(peer: Peer) -> Call:
    """The health check, whose answer SERVING has two bytes and every failure none."""
    return Call("Check", peer, HEALTH_CHECK, frame(health_pb2.HealthCheckRequest()), payload_bytes=2, counted=0)


def nothing(peer: Peer, size: int) -> Call:
    """A call of the server that does nothing."""
    return Call(
        "empty", peer, "/empty/Call", frame(pb.SampleRequest(count=1, seed=SEED)), payload_bytes=size, counted=0
    )


def _sample(name: str, rows: int, form: pb.ImageFormat = pb.IMAGE_FORMAT_UINT8) -> pb.SampleRequest:
    prior = bundle_pb2.PRIOR_STANDARD_NORMAL
    return pb.SampleRequest(
        model=pb.ModelRef(name=name), count=rows, seed=SEED, output=pb.Output(format=form), prior=prior
    )


def _ref(reference: Reference) -> pb.ModelRef:
    return pb.ModelRef(name=reference.model.name)


def _images(reference: Reference) -> pb.Images:
    return pb.Images(tensor=from_ndarray(reference.pixels))


def _infer_pixels(peer: Peer, reference: Reference, part: str, expected: Arrays) -> Call:
    name = f"{reference.model.name}.{part}"
    request = _infer_request(name, "image", "UINT8", reference.pixels, list(expected))
    return _checked(f"{peer.name} ModelInfer {name}", peer, MODEL_INFER, request, expected)


def _infer_request(
    name: str, entry: str, datatype: str, array: NDArray[np.generic], outputs: list[str]
) -> oip.ModelInferRequest:
    tensor = oip.ModelInferRequest.InferInputTensor(name=entry, datatype=datatype, shape=array.shape)
    wanted = [oip.ModelInferRequest.InferRequestedOutputTensor(name=output) for output in outputs]
    return oip.ModelInferRequest(model_name=name, inputs=[tensor], outputs=wanted, raw_input_contents=[array.tobytes()])


def _checked(name: str, peer: Peer, method: str, request: Message, expected: Arrays, counts: bool = True) -> Call:
    """The call, made once and compared with what is expected: to the bit, but for nats. Raises BenchError."""
    before = peer.answered() if counts else 0
    try:
        with peer.channel(MESSAGE_BYTES) as channel:
            call_it: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method, bytes, bytes)
            reply = call_it(request.SerializeToString(), timeout=60, metadata=peer.metadata)
    except grpc.RpcError as error:
        raise BenchError(f"{name}: {error.code().name}: {error.details()}") from None
    answer = _arrays(method, reply)
    for key, array in expected.items():
        if key not in answer or answer[key].shape != array.shape:
            raise BenchError(f"{name}: {key} is {getattr(answer.get(key), 'shape', None)} where {array.shape} is right")
        same = (
            np.allclose(answer[key], array, rtol=SCORE_TOLERANCE) if key in NATS else np.array_equal(answer[key], array)
        )
        if not same:
            raise BenchError(f"{name}: {key} is not what onnxruntime computes")
    payload = sum(array.size * min(4, array.itemsize) for array in expected.values())
    headers = (*GRPC_HEADERS, *(f"{key}: {value!s}" for key, value in peer.metadata))
    call = Call(name, peer, method, frame(request), payload, headers=headers)
    return replace(call, counted=peer.answered() - before if counts else 0)


def _arrays(method: str, reply: bytes) -> Arrays:
    match method.rpartition("/")[2]:
        case "ModelInfer":
            answer = oip.ModelInferResponse.FromString(reply)
            types = {"UINT8": np.uint8, "FP32": np.float32}
            return {
                out.name: np.frombuffer(raw, types[out.datatype]).reshape(tuple(out.shape) if raw else (0,))
                for out, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
            }
        case "Sample":
            images = to_ndarray(pb.SampleResponse.FromString(reply).images.tensor)
            return {"image_uint8" if images.dtype == np.uint8 else "image": images}
        case "Reconstruct":
            return {"image_uint8": to_ndarray(pb.ReconstructResponse.FromString(reply).images.tensor)}
        case "Encode":
            encoded = pb.EncodeResponse.FromString(reply)
            return {"mean": to_ndarray(encoded.mean), "log_variance": to_ndarray(encoded.log_variance)}
        case _:
            scored = pb.ScoreResponse.FromString(reply)
            return {
                "reconstruction_error": np.array(scored.reconstruction_error, np.float32),
                "kl": np.array(scored.kl, np.float32),
            }
