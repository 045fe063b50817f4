#!/usr/bin/env bash
# protobuf writes float32's largest number as JSON and cannot read it back.
#
# Versions: protobuf 7.36.2, numpy 2.4.6.
# Behaviour: json_format writes a float field in its shortest form, for the largest float32 3.4028235e+38. That is a
#   little above the number itself, 3.4028234663852886e+38, and the parser of the same library compares before it
#   rounds: "Float value too large". MessageToDict and ParseDict do the same, and so it is with the lowest number.
#   None of 20,000 random float32 failed. The same digits as a JSON string are read, and the text format keeps the
#   number.
# Expected: what MessageToJson has written can be read by Parse.
# Output seen:
#   written: 3.4028235e+38, read: Float value too large at FloatValue.value
#   written: -3.4028235e+38, read: Float value too small at FloatValue.value
#   written: 3.4028233e+38, read: the same number
#   text format of the largest: the same number
# Why it matters: numpy.finfo(numpy.float32).max is the usual "no bound" of a range or a clamp. A configuration or a
#   model's manifest that holds it is published without an error and cannot be loaded. Leave the field out, or write
#   infinity, which is "Infinity" in this JSON.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet protobuf==7.36.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from google.protobuf import json_format, text_format
from google.protobuf.wrappers_pb2 import FloatValue


def read_back(message):
    text = json_format.MessageToJson(message)
    try:
        result = "the same number" if json_format.Parse(text, FloatValue()) == message else "another number"
    except json_format.ParseError as error:
        result = str(error)
    print(f"written: {text}, read: {result}")
    return result


largest = np.finfo(np.float32).max
messages = [FloatValue(value=float(value)) for value in (largest, -largest, np.nextafter(largest, np.float32(0)))]
read = [read_back(message) for message in messages]
kept = text_format.Parse(text_format.MessageToString(messages[0]), FloatValue()) == messages[0]
print(f"text format of the largest: {'the same number' if kept else 'another number'}")
if "too large" not in read[0] or "too small" not in read[1] or read[2] != "the same number" or not kept:
    raise SystemExit("changed: other numbers can be read back")
PYTHON
