#!/usr/bin/env bash
# With more than one thread, a convolution gives a row other bits alone than in a batch.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, CPU, x86-64.
# Behaviour: for a batch, onnxruntime's plain convolution gives each thread whole rows; a single row it cuts into
#   pieces, one a thread, and where the cuts fall shows in the last bits. So the bits of a lone row depend on the number
#   of threads, and those of a row in a batch do not. With one thread all agree. By default this meets one-dimensional
#   and three-dimensional convolutions, and two-dimensional ones whose weights are fed or computed; below
#   ORT_ENABLE_ALL, the default level, also those of constant weights, which at that level go through another kernel.
# Expected: a row has the same bits in every batch, as with one thread; and the number of threads, which is by default
#   that of the processor's cores, changes the speed alone.
# Output seen (how many values differ when the row runs alone and in a batch of 4):
#   1D, default level: 1 thread 0%, 4 threads 84%
#   3D, default level: 1 thread 0%, 4 threads 84%
#   2D, weights fed, default level: 1 thread 0%, 4 threads 70%
#   2D, default level: 1 thread 0%, 4 threads 0%
#   2D, ORT_ENABLE_EXTENDED: 1 thread 0%, 4 threads 67%
#   1D, lone row with 4 threads against 1 thread: 84%; in a batch: 0%
# Why it matters: a server that batches the rows of its callers gives the same request other bits by its company, so
#   that digests, caches by content and golden files break under load, or on a machine with more cores. Tests pass that
#   were run with one thread, or with a network of plain 2D convolutions. Seen alike with AVX-512, and emulated with
#   AVX2 and with SSE4.2.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
[[ $(uname -m) == x86_64 ]] || { echo "skipped: needs an x86-64 processor"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
EXTENDED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
random = np.random.default_rng(0)


class Convolution:
    """A model of one convolution of kernels 3 wide, and four rows for it."""

    def __init__(self, channels, side, dimensions, fed=False):
        self.weight = (random.standard_normal((channels, channels, *[3] * dimensions)) / 10).astype(np.float32)
        self.rows = random.standard_normal((4, channels, *[side] * dimensions), dtype=np.float32)
        self.fed = {"weight": self.weight} if fed else {}
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, *[side] * dimensions])]
        if fed:
            inputs.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, self.weight.shape))
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "weight"], ["y"], pads=[1] * 2 * dimensions)],
            "layer",
            inputs,
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", channels, *[side] * dimensions])],
            [] if fed else [numpy_helper.from_array(self.weight, "weight")],
        )
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    def first_row(self, threads, level=ALL):
        """Return the first row's result when it runs alone, and when it runs in a batch of four."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.graph_optimization_level = threads, level
        session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        alone, batch = (session.run(None, {"x": rows, **self.fed})[0] for rows in (self.rows[:1], self.rows))
        return alone[0], batch[0]


def share(pair):
    first, second = pair
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)  # the last bits, and no more
    return float((first != second).mean())


line, image = Convolution(64, 256, 1), Convolution(16, 16, 2)
cases = {
    "1D, default level": (line, ALL, True),
    "3D, default level": (Convolution(16, 6, 3), ALL, True),
    "2D, weights fed, default level": (Convolution(16, 16, 2, fed=True), ALL, True),
    "2D, default level": (image, ALL, False),
    "2D, ORT_ENABLE_EXTENDED": (image, EXTENDED, True),
}
changed = False
for words, (convolution, level, differs) in cases.items():
    one, four = (share(convolution.first_row(threads, level)) for threads in (1, 4))
    print(f"{words}: 1 thread {one:.0%}, 4 threads {four:.0%}")
    changed |= one > 0 or (four > 0) != differs
(alone, batch), (lone_of_four, batch_of_four) = line.first_row(1), line.first_row(4)
lone, together = share((alone, lone_of_four)), share((batch, batch_of_four))
print(f"1D, lone row with 4 threads against 1 thread: {lone:.0%}; in a batch: {together:.0%}")
if changed or lone == 0 or together > 0:
    raise SystemExit("changed: other rows depend on their company and the threads")
PYTHON
