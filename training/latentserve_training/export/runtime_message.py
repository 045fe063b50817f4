"""What onnxruntime says of a failure, as one short line."""

from __future__ import annotations

import re

_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_LOADING = re.compile(r"Load model from \S* ?failed:|Exception during (?:initialization|loading): ")
_RUNNING = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ")
_SOURCE = re.compile(r"\S+\.(?:cc|h):\d+ ")
_FUNCTION = re.compile(r"^.*?(?:\) |Compute )(?:const )?(?:\[[^\]]*\] )?(?=[A-Z]|\w+ == )")
_LONGEST = 300


def shortened(error: Exception) -> str:
    """The node, where one failed, and the reason; without codes, and the runtime's own source lines and functions."""
    text = _LOADING.sub("", _CODE.split(" ".join(str(error).split()))[-1])
    running = _RUNNING.search(text)
    node = f"{running[1]} {running[2]!r}: ".replace(" ''", "") if running else ""
    text = text[running.end() :] if running else text
    source = _SOURCE.search(text)
    if source:
        text = _FUNCTION.sub("", text[source.end() :], count=1)
    return f"{node}{text}"[:_LONGEST].rstrip(". ")
