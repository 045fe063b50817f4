"""Bundles whose manifest was made to fit damage, as one who means harm would do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def resign(directory: Path, name: str, data: bytes) -> Path:
    """Put the data in the place of a bundle's file, and its size and digest into the manifest; returns the bundle."""
    (directory / name).write_bytes(data)
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    for file in described_files(manifest):
        if file["path"] == name:
            file.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=str(len(data)))
    path.write_text(json.dumps(manifest))
    return directory


def described_files(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifest's descriptions of files."""
    return [*(graph["file"] for graph in manifest["graphs"]), manifest["golden"], *manifest["files"]]
