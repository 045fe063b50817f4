"""Tests that call a server of the project: passed over where its packages are not installed."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("latentserve_server") and find_spec("onnxruntime") else ["test_*.py"]
