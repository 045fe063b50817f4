#!/usr/bin/env bash
# A random operator with a seed gives other numbers at every run of an onnxruntime session.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, CPU.
# Behaviour: onnxruntime reads the attribute seed of RandomNormal, RandomNormalLike, RandomUniform, RandomUniformLike,
#   Bernoulli and Multinomial when the session is made, and draws on from there: a session's second run gives what no
#   first run gives, and its tenth depends on how many rows the nine before it had. onnx's reference evaluator starts
#   again at every run. The ONNX standard does not say which is meant.
# Expected: a seed in the file makes the model a function of its inputs, as it does in the reference evaluator.
# Output seen:
#   onnxruntime: run 1 [-0.93 -0.68  0.25], run 2 [ 1.17 -0.79  0.27], run 3 [ 1.05  1.42 -0.57]
#   a new session: run 1 [-0.93 -0.68  0.25]
#   a new session that ran 5 rows before: run 2 [0.27 1.6  1.05]
#   reference evaluator: run 1 and run 2 the same
#   move on at every run, and begin again in a new session: RandomNormalLike, RandomUniformLike, Bernoulli,
#   RandomNormal, RandomUniform, Multinomial
# Why it matters: the seed is there so that one latent gives one picture. A check after the start passes, and the first
#   caller already gets another picture; replicas disagree, depending on what each has served; and a restart brings
#   the first pictures back. Noise that has to be repeatable must be an input.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

LIKE = ("RandomNormalLike", "RandomUniformLike", "Bernoulli")
FIXED = ("RandomNormal", "RandomUniform")


def model(operator):
    """Return a model that draws as many numbers as it is given, or three, with the seed 7."""
    inputs, shape = (["x"], {}) if operator in LIKE else ([], {"shape": [3]})
    if operator == "Multinomial":
        inputs, shape = ["logits"], {"sample_size": 20}
    infos = {
        "x": helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows"]),
        "logits": helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 8]),
    }
    kind = TensorProto.INT32 if operator == "Multinomial" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], seed=7.0, **shape)],
        "noise",
        [infos[name] for name in inputs],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def session(operator):
    return onnxruntime.InferenceSession(model(operator).SerializeToString(), providers=["CPUExecutionProvider"])


def draw(runner, operator, rows=3):
    feeds = {"x": np.full(rows, 0.5, np.float32)} if operator in LIKE else {}
    if operator == "Multinomial":
        feeds = {"logits": np.zeros((1, 8), np.float32)}
    return runner.run(None, feeds)[0]


np.set_printoptions(precision=2, suppress=True)
normal = "RandomNormalLike"
one = session(normal)
first, second, third = (draw(one, normal) for _ in range(3))
print(f"onnxruntime: run 1 {first}, run 2 {second}, run 3 {third}")
fresh = draw(session(normal), normal)
print(f"a new session: run 1 {fresh}")
other = session(normal)
draw(other, normal, rows=5)
after_five = draw(other, normal)
print(f"a new session that ran 5 rows before: run 2 {after_five}")
reference = ReferenceEvaluator(model(normal))
again = np.array_equal(draw(reference, normal), draw(reference, normal))
print(f"reference evaluator: run 1 and run 2 {'the same' if again else 'differ'}")


def moves_on(operator):
    runner = session(operator)
    rows = 20  # enough to tell two rows of zeros and ones apart
    first, second = draw(runner, operator, rows), draw(runner, operator, rows)
    return np.array_equal(first, draw(session(operator), operator, rows)) and not np.array_equal(first, second)


moving = [operator for operator in (*LIKE, *FIXED, "Multinomial") if moves_on(operator)]
print(f"move on at every run, and begin again in a new session: {', '.join(moving)}")
if not np.array_equal(first, fresh) or np.array_equal(first, second) or np.array_equal(second, after_five):
    raise SystemExit("changed: a seed no longer holds for the first run alone")
if len(moving) != 6 or not again:
    raise SystemExit("changed: other operators move on")
PYTHON
