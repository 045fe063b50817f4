"""Import a decoder of many weights beside onnxruntime opening its file once: time, processor time and memory.

    python benchmarks/imports.py --megabytes 300
    python benchmarks/imports.py --megabytes 300 --network convolutions
    python benchmarks/imports.py --megabytes 2300 --rounds 1 --serve

The decoder is made of seeded random weights, in one file and beside it, in a temporary folder that takes four times its
size. Each round is a process that opens the file and one that imports it, in turn. Both are measured from start to end,
and what the opening alone took within its process is told, too. Memory is what a process had at most (ru_maxrss), by
the size of the file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from server_process import serving

from latentserve_client import Client

_LATENTS = 256
_CHANNELS = 512
_MEGABYTE = 10**6
_MOST_IN_ONE_FILE = 2 * 10**9
_IMPORT = "import sys; from latentserve_training.commands import import_model; sys.exit(import_model(sys.argv[1:]))"
_OPEN = """
import sys, time
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
began = time.perf_counter()
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.perf_counter() - began)
"""


class Decoder:
    """A graph that is built operator by operator."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = "z"
        self._random = np.random.default_rng(0)

    def add(self, operator: str, *shapes: tuple[int, ...], **attributes: Any) -> None:
        """Add an operator with weights of these shapes, scaled so that what passes stays as large."""
        names = [self._hold(self._drawn(shape)) for shape in shapes]
        self.use(operator, *names, **attributes)

    def use(self, operator: str, *names: str, **attributes: Any) -> None:
        """Add an operator with further inputs of these names."""
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.last, *names], [output], **attributes))
        self.last = output

    def reshape(self, *shape: int) -> None:
        """Give each row a shape."""
        self.use("Reshape", self._hold(np.array([-1, *shape])))

    def twice_as_large(self) -> None:
        """Repeat every pixel in both directions."""
        scales = self._hold(np.array([1, 1, 2, 2], np.float32))
        self.use(
            "Resize", "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def save(self, path: Path, *, beside: bool) -> None:
        """Write it, its weights `beside` it or within."""
        self.use("Sigmoid")
        latents = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", _LATENTS])
        image = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, ["batch", 3, None, None])
        graph = helper.make_graph(self.nodes, "decoder", [latents], [image], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, path, save_as_external_data=beside, location=f"{path.stem}.weights" if beside else None)

    def _drawn(self, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        drawn = self._random.standard_normal(shape, dtype=np.float32)
        drawn *= math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.01
        return drawn

    def _hold(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name


def layers(megabytes: int) -> Decoder:
    """Four wide layers, which have nearly all the weights, and transposed convolutions to images of 64 x 64."""
    decoder, width = Decoder(), 64 * round(math.sqrt(megabytes * _MEGABYTE / 4 / 4) / 64)
    for inputs, outputs in ((_LATENTS, width), *[(width, width)] * 3, (width, width // 16 * 16)):
        decoder.add("Gemm", (outputs, inputs), (outputs,), transB=1)
        decoder.use("Relu")
    channels = width // 16
    decoder.reshape(channels, 4, 4)
    for fewer in (128, 64, 32):
        decoder.add("ConvTranspose", (channels, fewer, 4, 4), (fewer,), strides=[2, 2], pads=[1, 1, 1, 1])
        decoder.use("Relu")
        channels = fewer
    decoder.add("ConvTranspose", (channels, 3, 4, 4), (3,), strides=[2, 2], pads=[1, 1, 1, 1])
    return decoder


def convolutions(megabytes: int) -> Decoder:
    """Convolutions of 512 channels, as many at each size from 4 x 4 to 32 x 32: a row takes long."""
    decoder, sizes = Decoder(), 4
    each = round(megabytes * _MEGABYTE / 4 / (9 * _CHANNELS**2) / sizes)
    decoder.add("Gemm", (16 * _CHANNELS, _LATENTS), (16 * _CHANNELS,), transB=1)
    decoder.reshape(_CHANNELS, 4, 4)
    for size in range(sizes):
        if size:
            decoder.twice_as_large()
        for _ in range(each):
            decoder.add("Conv", (_CHANNELS, _CHANNELS, 3, 3), (_CHANNELS,), pads=[1, 1, 1, 1])
            decoder.use("Relu")
    decoder.add("Conv", (3, _CHANNELS, 1, 1), (3,))
    return decoder


class Process(NamedTuple):
    """A process from start to end."""

    seconds: float
    processor_seconds: float
    most_bytes: int
    said: str


def measured(*arguments: str | Path) -> Process:
    """Run Python with the arguments."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return Process(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said)


def compare(folder: Path, graph: Path, rounds: int) -> Iterator[str]:
    """Open and import in turn; what was found, in lines."""
    size = sum(file.stat().st_size for file in graph.parent.glob(f"{graph.stem}.*"))
    described = {"kind": "gan", "latent_dim": _LATENTS, "decoder": {"file": graph.name}}
    (folder / "gan.yaml").write_text(json.dumps(described), encoding="utf-8")
    arguments = (folder / "gan.yaml", "--repository", folder / "models", "--name", graph.stem, "--version")
    measured("-c", _OPEN, graph)  # the file's first reading
    pairs = []
    for turn in range(rounds):
        opened = measured("-c", _OPEN, graph)
        pairs.append((opened, measured("-c", _IMPORT, *arguments, str(turn + 1))))
    opening = [float(opened.said) for opened, _ in pairs]
    taken = [imported.seconds for _, imported in pairs]
    yield f"{graph.stem}: {size / _MEGABYTE:,.0f} MB; opened in {median(opening)} s, imported in {median(taken)} s"
    yield ratios("time, by the opening alone", taken, opening)
    yield ratios("time, by the opening's process", taken, [opened.seconds for opened, _ in pairs])
    ours = [one.processor_seconds for _, one in pairs]
    yield ratios("processor time, by the opening's process", ours, [one.processor_seconds for one, _ in pairs])
    yield ratios("memory, by the file's size", [one.most_bytes for _, one in pairs], [size] * rounds)
    yield ratios("memory of the opening, by the file's size", [one.most_bytes for one, _ in pairs], [size] * rounds)


def median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}"


def ratios(what: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    found = [one / other for one, other in zip(ours, theirs, strict=True)]
    return f"  {what}: {median(found)} ({min(found):.2f} to {max(found):.2f})"


def serve(folder: Path, name: str) -> str:
    """What a server of the imported model takes to start, to decode, and of memory."""
    began = time.perf_counter()
    with serving(folder / "models", "--cpu-threads", "1") as server, Client(f"127.0.0.1:{server.port}") as client:
        started = time.perf_counter() - began
        latents = np.random.default_rng(1).standard_normal((4, _LATENTS), dtype=np.float32)
        began = time.perf_counter()
        images = client.decode(name, latents, timeout=600).images
        decoded = time.perf_counter() - began
        status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    most, now = (int(line.split()[1]) * 1024 / _MEGABYTE for line in status if line.startswith(("VmHWM", "VmRSS")))
    assert images.shape[:2] == (4, 3)
    told = f"  served after {started:.1f} s; 4 rows decoded in {decoded:.2f} s"
    return f"{told}; memory {now:,.0f} MB, at most {most:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--network", choices=["layers", "convolutions"], default="layers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help="serve what was imported, too")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    make = {"layers": layers, "convolutions": convolutions}[options.network]
    if options.write:
        make(options.megabytes).save(options.write, beside=options.write.stem == "beside")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        asked = ("--network", options.network, "--megabytes", str(options.megabytes))
        whole = options.megabytes * _MEGABYTE < _MOST_IN_ONE_FILE
        for stem in ("within", "beside") if whole else ("beside",):
            # Elsewhere, for the memory of a process begins with that of the one that starts it.
            subprocess.run([sys.executable, __file__, *asked, "--write", folder / f"{stem}.onnx"], check=True)
            for line in compare(folder, folder / f"{stem}.onnx", options.rounds):
                print(line, flush=True)
            if options.serve:
                print(serve(folder, stem), flush=True)


if __name__ == "__main__":
    main()
