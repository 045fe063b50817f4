#!/bin/sh
# Installs the wheels in a folder into an environment that has what they need, and makes it small and ready to run.
set -eu
environment=$1 wheels=$2
pip --python "$environment/bin/python" install --no-compile --no-index --no-deps "$wheels"/*.whl
# The libraries' own tests, which the base image leaves out of Python, too, and onnxruntime's tools that change models.
find "$environment/lib" -type d \( -name tests -o -path '*/onnxruntime/quantization' -o -path '*/onnxruntime/transformers' \) \
  -prune -exec rm -r {} +
# Not with the time of each source, as is usual, so that the same locks and sources make the same image.
"$environment/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$environment/lib"
