"""What holds between files that import-linter does not see."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("folder", ["bulk", "proto", "server", "clients", "clients/python", "training"])
def test_a_role_folder_is_not_a_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_only_the_configuration_reads_the_environment() -> None:
    readers = {
        path.name
        for path in (ROOT / "server" / "latentserve_server").rglob("*.py")
        if any(name in path.read_text() for name in ("os.environ", "os.getenv"))
    }
    assert readers == {"cli.py"}, "which hands them to the configuration"
