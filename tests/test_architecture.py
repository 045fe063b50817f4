"""What holds between files that import-linter does not see."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "latentserve": ROOT / "proto" / "latentserve",
    "latentserve_server": ROOT / "server" / "latentserve_server",
    "latentserve_client": ROOT / "clients" / "python" / "latentserve_client",
    "latentserve_training": ROOT / "training" / "latentserve_training",
}
FORBIDDEN = {
    "latentserve": {"onnxruntime", "torch", "onnx"},
    "latentserve_server": {"torch", "onnx", "lightning", "sklearn"},
    "latentserve_client": {"torch", "onnx", "onnxruntime", "jsonargparse", "prometheus_client"},
    "latentserve_training": {"grpc"},
}
BOUNDARIES = {
    "latentserve": {"PIL": {"picture.py"}},
    "latentserve_client": {"PIL": {"cli/output.py"}, "tqdm": {"cli/command.py"}},
    "latentserve_server": {
        "onnxruntime": {"engine/device.py", "engine/session.py", "engine/binding.py"},
        "prometheus_client": {"metrics.py"},
        "PIL": {"image_files.py"},
        "pythonjsonlogger": {"logs.py"},
        "argparse": {"command_line.py"},
        "yaml": {"config_file.py"},
        "fsspec": {"remote_files.py"},
    },
}


def imports(path: Path) -> set[str]:
    """The first part of every module that the file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def sources(package: str) -> list[Path]:
    """The package's own files; generated stubs are the generator's business."""
    return [path for path in PACKAGES[package].rglob("*.py") if "_pb2" not in path.name]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_knows_only_itself_and_the_contract(package: str) -> None:
    known = {package, "latentserve"}
    strangers = {
        str(path.relative_to(ROOT)): found
        for path in sources(package)
        if (found := imports(path) & (set(PACKAGES) - known | FORBIDDEN[package]))
    }
    assert strangers == {}


@pytest.mark.parametrize(
    ("package", "library", "files"),
    [(package, library, files) for package, rows in BOUNDARIES.items() for library, files in rows.items()],
)
def test_a_third_party_boundary_has_one_file_or_one_folder(package: str, library: str, files: set[str]) -> None:
    knowing = {path.relative_to(PACKAGES[package]).as_posix() for path in sources(package) if library in imports(path)}
    assert knowing == files


@pytest.mark.parametrize("folder", ["proto", "server", "clients", "clients/python", "training"])
def test_a_role_folder_is_not_a_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_only_the_configuration_reads_the_environment() -> None:
    readers = {
        path.name
        for path in (ROOT / "server" / "latentserve_server").rglob("*.py")
        if any(name in path.read_text() for name in ("os.environ", "os.getenv"))
    }
    assert readers == {"cli.py"}, "which hands them to the configuration"
