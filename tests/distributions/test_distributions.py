"""The packages as they are given away: built, looked into, and installed where there is no checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import Distribution, PathDistribution, distributions
from pathlib import Path
from zipfile import Path as ZipPath

import numpy as np
import pytest
from distributions.fresh_environment import FreshEnvironment, third_party
from packaging.requirements import Requirement
from server_process import server_process
from tiny_bundle import TinyModel

from latentserve_server.latent.noise import NoiseSource, Stream

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "latentserve-proto": ROOT / "proto",
    "latentserve-server": ROOT / "server",
    "latentserve-client": ROOT / "clients" / "python",
    "latentserve-training": ROOT / "training",
    "latentserve-bulk": ROOT / "bulk",
}
VERSION = tomllib.loads((ROOT / "proto" / "pyproject.toml").read_text())["project"]["version"]
FROM_A_CHECKOUT = ("latentserve-server", "latentserve-client", "latentserve-training", "latentserve-bulk")
# What jobs need of third parties has an environment of its own: tests/bulk installs and runs them there.
INSTALLED = FROM_A_CHECKOUT[:-1]
TRAINING_COMMANDS = ("train", "evaluate", "export", "import")
SAMPLE = ("sample", "tiny", "--count", "5", "--seed", "7")
# The runtime that the tests run with: both are the import package onnxruntime.
RUNTIME = "cpu" if any(distributions(name="onnxruntime")) else "gpu"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheels` builds and checks, with the tools of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("dist")
    variables = (f"DIST={folder}", f"BIN={Path(sys.executable).parent}")
    # The environment of the checkout is not to be made anew, however old it is.
    command = ["make", "--old-file=setup", "wheels", *variables]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> FreshEnvironment:
    return FreshEnvironment(tmp_path / "environment")


def described(dist: Path, name: str) -> Distribution:
    """The wheel's metadata."""
    stem = f"{name.replace('-', '_')}-{VERSION}"
    return PathDistribution(ZipPath(dist / f"{stem}-py3-none-any.whl", f"{stem}.dist-info/"))


def siblings(package: Distribution) -> list[Requirement]:
    """The requirements of the package that are this project's."""
    return [each for each in map(Requirement, package.requires or ()) if each.name in FOLDERS]


def needs(dist: Path, name: str, *extras: str) -> list[str]:
    """What the package asks for of third parties, by itself and through latentserve-proto."""
    package, proto = described(dist, name), described(dist, "latentserve-proto")
    (through,) = siblings(package)
    return [*third_party(package, *extras), *third_party(proto, *through.extras)]


def install(environment: FreshEnvironment, dist: Path, *packages: str) -> None:
    environment.pip("install", "--no-index", "--find-links", dist, *packages)
    assert environment.pip("check") == "No broken requirements found.\n"


def test_the_version_is_that_of_the_newest_changes() -> None:
    heading = re.search(r"(?m)^## (\S+)", (ROOT / "CHANGELOG.md").read_text())
    assert heading is not None
    assert heading[1] == VERSION


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_says_what_it_is_and_needs(dist: Path, name: str) -> None:
    package = described(dist, name)
    assert (package.name, package.version) == (name, VERSION)
    beside = [] if name == "latentserve-proto" else [("latentserve-proto", f"~={VERSION}")]
    beside += [("latentserve-server", f"~={VERSION}")] if name == "latentserve-bulk" else []
    assert [(each.name, str(each.specifier)) for each in siblings(package)] == beside
    assert not [requirement for requirement in package.requires or () if "@" in requirement]
    assert package.metadata["License-Expression"] == "Apache-2.0"
    assert package.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert package.metadata["Description-Content-Type"] == "text/markdown"
    assert package.metadata.get_payload() == (FOLDERS[name] / "README.md").read_text()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_source_distribution_says_the_same(dist: Path, name: str) -> None:
    stem = f"{name.replace('-', '_')}-{VERSION}"
    with tarfile.open(dist / f"{stem}.tar.gz") as archive:
        file = archive.extractfile(f"{stem}/PKG-INFO")
        assert file is not None
        assert file.read().decode() == described(dist, name).read_text("METADATA")


def test_the_files_that_packages_share_are_alike() -> None:
    assert len({(folder / "LICENSE").read_bytes() for folder in [ROOT, *FOLDERS.values()]}) == 1
    assert len({(FOLDERS[name] / "build_backend.py").read_bytes() for name in FROM_A_CHECKOUT}) == 1


def test_the_lower_bounds_of_the_client_are_those_it_is_tested_with(dist: Path) -> None:
    lines = (ROOT / "tests" / "client" / "oldest.txt").read_text().splitlines()
    tested = {each.name: each.specifier for each in map(Requirement, lines[1:])}
    for requirement in map(Requirement, needs(dist, "latentserve-client")):
        (lowest,) = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        assert lowest in tested[requirement.name], requirement


async def test_a_server_and_a_client_run_from_what_was_built_alone(dist: Path, tmp_path: Path) -> None:
    client, server = FreshEnvironment(tmp_path / "client"), FreshEnvironment(tmp_path / "server")
    client.provide(*needs(dist, "latentserve-client"))
    server.provide(*needs(dist, "latentserve-server", RUNTIME))
    install(client, dist, "latentserve-client")
    install(server, dist, f"latentserve-server[{RUNTIME}]")
    assert client.run("latentserve", "--version") == f"latentserve {VERSION}\n"
    assert server.run("latentserve-server", "--version") == f"latentserve-server {VERSION}\n"
    model = TinyModel()
    model.write(tmp_path / "models" / "tiny" / "1")
    command, variables = server.bin / "latentserve-server", {"PYTHONPATH": ""}
    async with server_process(tmp_path / "models", variables=variables, executable=command) as process:
        port = (await process.log("serving"))["port"]
        client.run("latentserve", "--server", f"127.0.0.1:{port}", *SAMPLE, "-o", tmp_path / "drawn.npy")
    latents = NoiseSource().draw(7, 0, 5, model.latent_dim, Stream.PRIOR)
    np.testing.assert_allclose(np.load(tmp_path / "drawn.npy"), model.images(latents), rtol=0, atol=1e-6)


def test_the_commands_of_training_run_from_what_was_built_alone(dist: Path, environment: FreshEnvironment) -> None:
    environment.provide(*needs(dist, "latentserve-training", RUNTIME))
    install(environment, dist, f"latentserve-training[{RUNTIME}]")
    for command in TRAINING_COMMANDS:
        assert environment.run(f"latentserve-{command}", "--version") == f"latentserve-{command} {VERSION}\n"


@pytest.mark.parametrize("name", INSTALLED)
def test_a_checkout_is_installed_by_one_command(environment: FreshEnvironment, dist: Path, name: str) -> None:
    environment.provide(*needs(dist, name), "hatchling")
    environment.pip("install", "--no-index", "--no-build-isolation", FOLDERS[name])
    assert environment.pip("check") == "No broken requirements found.\n"


@pytest.mark.parametrize("name", FROM_A_CHECKOUT)
def test_a_wheel_that_pip_builds_from_a_checkout_can_be_given_away(
    environment: FreshEnvironment, dist: Path, tmp_path: Path, name: str
) -> None:
    environment.provide("hatchling")
    built = tmp_path / "wheels"
    environment.pip("wheel", "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", built, FOLDERS[name])
    assert described(built, name).requires == described(dist, name).requires
