#!/usr/bin/env bash
# NumPy's exp, log and tanh give other last bits on another x86-64 processor, with the same wheel.
#
# Versions: numpy 2.4.6, x86-64 with AVX2.
# Behaviour: one wheel holds several versions of each function and picks one when it is imported, by what the processor
#   can. They round differently: between a processor without AVX2 and one with it float32 exp, log and tanh and float64
#   tanh differ by up to 3 units in the last place; between AVX2 and AVX-512 float64 exp and log, float32 log1p, and
#   cbrt in both. Multiplication, division and sqrt agree everywhere. NPY_DISABLE_CPU_FEATURES, by which this script
#   plays the other processors, leaves versions out and adds none.
# Expected: one wheel, one result, at least in float64.
# Output seen (the share of 100,000 values that differ; the second line needs a processor with AVX-512):
#   without AVX2 and with it: exp float32 39%, log float32 27%, tanh float32 44%, tanh float64 38%
#   with AVX2 and with AVX-512: exp float64 5%, log float64 0.4%, log1p float32 17%, cbrt float64 51%
#   multiply, divide, sqrt: the same everywhere
# Why it matters: what was computed where a model was exported, such as golden rows and reference losses, is compared
#   bit by bit with what is computed where it is served. That passes on machines of one kind and fails in a fleet of
#   two. Compare with a tolerance of a few units in the last place, or store the numbers.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
[[ $(uname -m) == x86_64 ]] || { echo "skipped: needs an x86-64 processor"; exit 0; }
grep -qw avx2 /proc/cpuinfo || { echo "skipped: needs a processor with AVX2"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6

cat >"$folder/compute.py" <<'PYTHON'
import sys

import numpy as np

x = np.abs(np.random.default_rng(0).standard_normal(100_000)) + 0.1
results = {}
for name in ("exp", "log", "tanh", "log1p", "cbrt", "sqrt"):
    for kind in (np.float32, np.float64):
        results[f"{name} {kind.__name__}"] = getattr(np, name)(x.astype(kind))
results["multiply"], results["divide"] = x * x[::-1], x / x[::-1]
np.savez(sys.argv[1], **results)
PYTHON

AVX512="X86_V4 AVX512_ICL AVX512_SPR"
NPY_DISABLE_CPU_FEATURES="X86_V3 $AVX512" "$folder/venv/bin/python" "$folder/compute.py" "$folder/without.npz"
NPY_DISABLE_CPU_FEATURES=$AVX512 "$folder/venv/bin/python" "$folder/compute.py" "$folder/avx2.npz"
"$folder/venv/bin/python" "$folder/compute.py" "$folder/all.npz"

FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON'
import os
from pathlib import Path

import numpy as np

without, avx2, everything = (np.load(Path(os.environ["FOLDER"]) / f"{n}.npz") for n in ("without", "avx2", "all"))
avx512 = any(line.startswith("flags") and "avx512_vbmi2" in line for line in Path("/proc/cpuinfo").open())


def share(first, second, name):
    np.testing.assert_array_max_ulp(first[name], second[name], 4)  # the last bits, and no more
    return float((first[name] != second[name]).mean())


def show(words, first, second, names):
    shares = [share(first, second, name) for name in names]
    print(f"{words}: " + ", ".join(f"{name} {100 * value:.2g}%" for name, value in zip(names, shares, strict=True)))
    return shares


old = ["exp float32", "log float32", "tanh float32", "tanh float64"]
new = ["exp float64", "log float64", "log1p float32", "cbrt float64"]
changed = 0 in show("without AVX2 and with it", without, avx2, old)
if avx512:
    changed |= 0 in show("with AVX2 and with AVX-512", avx2, everything, new)
else:
    print("with AVX2 and with AVX-512: skipped, needs a processor with AVX-512")
exact = ["multiply", "divide", "sqrt float32", "sqrt float64"]
same = all(share(other, everything, name) == 0 for other in (without, avx2) for name in exact)
print(f"multiply, divide, sqrt: {'the same everywhere' if same else 'differ'}")
if changed or not same:
    raise SystemExit("changed: other functions depend on the processor")
PYTHON
