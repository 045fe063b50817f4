#!/usr/bin/env bash
# A histogram whose first bucket is negative has no _sum, unless it runs in several processes.
#
# Versions: prometheus-client 0.26.0.
# Behaviour: a Histogram whose lowest bound is below zero exports its buckets and its _count but no _sum, in the text
#   format and in OpenMetrics alike, and says nothing when it is made or observed. The same histogram in multiprocess
#   mode (PROMETHEUS_MULTIPROC_DIR) does export _sum. A histogram with bounds from 0 up that observes negative values
#   exports _sum in both.
# Expected: _sum as in every other histogram, or a word when the histogram is made. OpenMetrics forbids the sum in
#   this case, because it can fall; the text format does not.
# Output seen:
#   one process: ['score_bucket', 'score_count']
#   several processes: ['score_bucket', 'score_count', 'score_sum'] sum -4.5
#   bounds from 0 up: ['score_bucket', 'score_count', 'score_sum'] sum -4.5
# Why it matters: log-likelihoods, logits of a discriminator and rewards are negative. The usual mean, rate(score_sum)
#   / rate(score_count), is then an empty result, not an error: a panel stays blank and an alert on it never fires,
#   and whether it does depends on how many processes serve. A Summary, or a histogram of the negated value, keeps its
#   sum.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prometheus-client==0.26.0

cat > "$folder/observe.py" <<'PYTHON'
import os
import sys

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

registry = CollectorRegistry()
score = Histogram("score", "Log-likelihood.", buckets=[float(bound) for bound in sys.argv[1:]], registry=registry)
score.observe(-5.0)
score.observe(0.5)
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
names = {sample.name for metric in registry.collect() for sample in metric.samples} - {"score_created"}
total = registry.get_sample_value("score_sum")
print(sorted(names), "" if total is None else f"sum {total}")
PYTHON

one=$("$folder/venv/bin/python" "$folder/observe.py" -10 -1 0 1)
mkdir "$folder/values"
several=$(PROMETHEUS_MULTIPROC_DIR="$folder/values" "$folder/venv/bin/python" "$folder/observe.py" -10 -1 0 1)
positive=$("$folder/venv/bin/python" "$folder/observe.py" 0 1)
echo "one process: $one"
echo "several processes: $several"
echo "bounds from 0 up: $positive"
if [[ $one == *score_sum* || $several != *score_sum* || $positive != *score_sum* ]]; then
    echo "changed: the sum is there, or not there, in other cases"
    exit 1
fi
