"""FID in Inception's features: what is refused, and, with weights drawn from a seed in the real file's format, its way.

The weights that published FIDs are measured with are a file of 96 MB that nobody downloads here, so these tests show
that the numbers are those of the file's own network, and not what such a network thinks of pictures.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from training.colour_folder import colour_folder
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.errors import DataError
from latentserve_training.evaluation.config import INCEPTION_SHA256, EvaluationConfig
from latentserve_training.evaluation.evaluate import evaluate
from latentserve_training.evaluation.extractor.inception import Inception
from latentserve_training.evaluation.fidelity import frechet_distance

Capture = pytest.CaptureFixture[str]
INSTALLED = find_spec("torch_fidelity") is not None
needs_network = pytest.mark.skipif(not INSTALLED, reason="needs latentserve-training[inception]")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN of 8x8 colour pictures."""
    folder = tmp_path_factory.mktemp("colour")
    data = ("--data.name", "folder", "--data.root", str(colour_folder(folder / "pictures")))
    assert commands.train(arguments("mlp_gan", folder / "run", *data, "--trainer.batch_size", "8")) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the format of the real one, of weights from a seed, wide enough that features reach the last layer."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Fresh(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object, **__: object) -> None:
            """Keep the weights that torch has drawn."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = Fresh("fresh", ["2048"], nothing).state_dict()
    he = 6**0.5  # from torch's own width to that of He et al. 2015 for rectifiers
    state = {name: he * tensor if tensor.dim() == 4 else tensor for name, tensor in state.items()}
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(capsys: Capture, run: Path, *options: object) -> str:
    """What the command ends with."""
    capsys.readouterr()
    assert commands.evaluate([str(run), "--quick", *map(str, options)]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    return err.removeprefix("latentserve-evaluate: error: ").rstrip("\n")


def test_what_cannot_be_used_is_one_line_before_anything_is_measured(
    capsys: Capture, run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"weights")
    missing, digest = tmp_path / "missing.pth", digest_of(other)
    table: list[tuple[tuple[object, ...], str]] = [
        (("--inception-weights", missing), f"--inception-weights {missing}: No such file or directory"),
        (
            ("--inception-weights", other),
            f"--inception-weights {other} has the SHA-256 {digest}; it must have {INCEPTION_SHA256}",
        ),
        (("--inception-sha256", "6726825d"), "--inception-sha256 is 6726825d; it must be 64 digits from 0 to f"),
    ]
    for options, message in table:
        assert refusal(capsys, run, *options) == message
    assert not (run / "report.json").exists()


def test_grey_images_are_refused(capsys: Capture, tmp_path: Path) -> None:
    assert commands.train(arguments("mlp_gan", tmp_path / "run")) == 0
    said = refusal(capsys, tmp_path / "run", "--inception-weights", tmp_path / "any.pth")
    assert said == "--inception-weights is for images of 3 channels; these have 1"


@pytest.mark.skipif(INSTALLED, reason="torch-fidelity is installed")
def test_a_missing_package_is_one_line(capsys: Capture, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    path.write_bytes(b"weights")
    said = refusal(capsys, run, "--inception-weights", path, "--inception-sha256", digest_of(path))
    assert said == (
        "--inception-weights needs the package torch-fidelity, which cannot be loaded (No module named "
        "'torch_fidelity'); install latentserve-training[inception]"
    )


def test_a_colour_model_s_report_says_why_it_has_no_fid(run: Path) -> None:
    report = evaluate(run, config=EvaluationConfig(samples=100))
    assert not [name for name in report.metrics if "fid" in name]
    (section,) = (section for section in report.sections if section.title == "Fidelity")
    assert section.protocol == (
        "Not measured: the images are 3x8x8, and the pinned feature extractor takes 1x28x28 only. FID of colour images "
        "is measured in Inception's features where --inception-weights names a file."
    )


@needs_network
def test_a_colour_model_is_measured_in_inception_s_features_and_in_no_others(run: Path, weights: Path) -> None:
    digest = digest_of(weights)
    config = EvaluationConfig(samples=100, inception_weights=weights, inception_sha256=digest)
    report = evaluate(run, config=config)
    assert [name for name in report.metrics if "fid" in name] == ["floor_fid_inception", "samples_fid_inception"]
    assert 0 < report.metrics["floor_fid_inception"] < report.metrics["samples_fid_inception"]
    (section,) = (section for section in report.sections if "Fidelity" in section.title)
    assert section.title == "Fidelity in Inception's features"
    assert f"weights of SHA-256 `{digest}`" in section.protocol


@needs_network
def test_features_are_the_network_s_own_and_a_set_is_no_distance_from_itself(weights: Path) -> None:
    inception = Inception.read(weights, digest_of(weights))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    features = inception.features(images)
    assert (features.shape, features.dtype) == ((40, 2048), torch.float32)
    torch.testing.assert_close(features[:4], inception.network(images[:4])[0])
    other = inception.features(images // 2)
    spread = features.double().var(dim=0).sum().item()
    assert abs(frechet_distance(features, features.flip(0))) < 1e-3 * spread
    assert frechet_distance(features, other) > 0.1 * spread


class _Code:
    """What would write a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@needs_network
def test_a_file_of_other_things_is_refused_and_its_code_does_not_run(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    state.pop("fc.bias")
    torch.save(state, tmp_path / "without.pth")
    torch.save({"fc.bias": _Code(tmp_path / "written")}, tmp_path / "code.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(_Code(tmp_path / "written")))
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    for path in tmp_path.glob("*.pth"):
        with pytest.raises(DataError, match=f"{path}: not the weights of torch-fidelity's Inception"):
            Inception.read(path, digest_of(path))
    assert not (tmp_path / "written").exists()
