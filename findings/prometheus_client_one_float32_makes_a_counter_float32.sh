#!/usr/bin/env bash
# One NumPy float32 turns a Prometheus counter into a float32 for good, and it stops at 16,777,216.
#
# Versions: prometheus-client 0.26.0, numpy 2.4.6.
# Behaviour: Counter.inc, Gauge.inc, Summary.observe and Histogram.observe add what they are given to their value as
#   it is. Since NumPy 2, a Python float plus a numpy.float32 is a numpy.float32, and so is every sum after it,
#   whatever is added. From then on a counter cannot pass 2^24 by steps of one, and the _sum of a histogram drops what
#   is smaller than its last bit. One numpy.float16 is worse: the _sum is infinite once it passes 65,504. Gauge.set
#   converts, and is right.
# Expected: the values of a metric are float64, as Prometheus defines them, whatever type a number comes in.
# Output seen:
#   counter: 16777216.0 instead of 16778217.0
#   histogram: sum 2000000.0 instead of 2000050.0, count 1002
#   histogram, float16: sum inf instead of 101000.0
# Why it matters: losses, scores, pixel means and times measured by a model are numpy.float32. One of them among a
#   million ordinary numbers is enough, nothing warns, and rate() of the series is zero where there is traffic.
#   float(value) before inc and observe helps.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prometheus-client==0.26.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram

warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's word about the overflow of float16
registry = CollectorRegistry()

images = Counter("images", "Images drawn.", registry=registry)
images.inc(np.float32(1))
images.inc(2**24)
for _ in range(1000):
    images.inc()

loss = Histogram("loss", "Loss of an image.", buckets=[1, 10], registry=registry)
loss.observe(np.float32(0))
loss.observe(2e6)
for _ in range(1000):
    loss.observe(0.05)

half = Histogram("half", "The same, from a model in float16.", buckets=[1, 10], registry=registry)
half.observe(np.float16(1000))
for _ in range(100):
    half.observe(1000.0)

counted = registry.get_sample_value("images_total")
summed = registry.get_sample_value("loss_sum")
halves = registry.get_sample_value("half_sum")
print(f"counter: {float(counted)} instead of {1 + 2**24 + 1000.0}")
print(f"histogram: sum {float(summed)} instead of {2e6 + 50}, count {registry.get_sample_value('loss_count'):.0f}")
print(f"histogram, float16: sum {float(halves)} instead of {101 * 1000.0}")
if (counted, summed, halves) != (2**24, 2e6, np.inf):
    raise SystemExit("changed: the values are no longer kept in the type of what was added")
PYTHON
