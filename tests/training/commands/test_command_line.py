"""The three commands as their users meet them: what is refused, in one line, and with which exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from training.small_runs import arguments

from latentserve_training import commands
from latentserve_training.models import FAMILIES

Capture = pytest.CaptureFixture[str]
CONFIGS = Path(commands.__file__).parent / "configs"


def failure(capsys: Capture, argv: list[str], main: Callable[[list[str]], int] = commands.train) -> tuple[int, str]:
    """Exit code and standard error, which must be a single line."""
    code = main(argv)
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return code, line


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model.latent_dims", "3"], 2, "latent_dims"),
        (
            ["--model.latent_dim", "many"],
            2,
            "model.latent_dim is many; it must be a whole number (Number of latent dimensions)",
        ),
        (["--trainer.epoch", "3"], 2, "--trainer.epoch: there is no such option; did you mean --trainer.epochs?"),
        (["--trainer.epochs", ""], 2, "trainer.epochs is empty; it must be a whole number (Passes over the training"),
        (["--trainer.epochs"], 2, "--trainer.epochs: expected one argument"),
        (["--config"], 2, "--config: expected one argument"),
        (["--data.size", "x"], 2, "data.size is x; it must be a whole number ("),
        (["--model.learning_rate", "true"], 2, "model.learning_rate is true; it must be a number (Adam's step size)"),
        (["--model.objective", "3"], 2, "model.objective is 3; it must be options of its own, or a YAML file of them"),
        (["--trainer", "{epochs: x}"], 2, "trainer.epochs is x; it must be a whole number"),
        (["digits"], 2, "digits: belongs to no option"),
        (["--data.name", "cifar"], 2, "data.name is cifar; it must be one of digits, mnist, folder"),
        (
            ["--model.family", "diffusion"],
            2,
            "model.family is 'diffusion'; known are conv_vae, mlp_vae, cvae",
        ),
        (["--model.family", "mlp_vae", "--model.narrower", "1"], 2, "narrower"),
        (["--trainer.epochs", "0"], 2, "trainer.epochs is 0; it must be at least 1"),
        (["--trainer.ema_decay", "1"], 2, "trainer.ema_decay is 1.0; it must be at least 0 and less than 1"),
        (["--trainer.batch_size", "5000"], 1, "trainer.batch_size is 5000, but there are 1437 training images"),
        (["--model.learning_rate", "-1"], 2, "model.learning_rate is -1.0; it must be positive"),
        (["--model.learning_rate", ".nan"], 2, "model.learning_rate is nan; it must be positive and finite"),
        (["--model.family", "mlp_gan", "--model.dropout", "1"], 2, "model.dropout is 1.0"),
        (["--model.family", "mlp_gan", "--model.min_diversity", ".nan"], 2, "model.min_diversity is nan; it must be"),
        (["--model.family", "mlp_gan", "--model.beta1", ".nan"], 2, "model.beta1 is nan; it must be at least 0 and"),
        (["--model.family", "dcgan", "--model.width", "0"], 2, "model.width is 0; it must be positive"),
        (["--model.family", "dcgan", "--model.dense", "0"], 2, "model.dense is 0; it must be positive"),
        (["--model.family", "dcgan", "--model.generator_learning_rate", "0"], 2, "generator_learning_rate is 0.0"),
        (["--model.family", "cgan", "--model.label_dim", "0"], 2, "model.label_dim is 0; it must be positive"),
        (["--model.family", "wgan_gp", "--model.beta2", "1"], 2, "model.beta2 is 1.0; it must be at least 0 and less"),
        (["--model.objective.beta", "-1"], 2, "model.objective.beta is -1.0; it must be finite and not negative"),
        (["--model.objective.draw", "2"], 2, "draw"),
        (
            ["--model.likelihood", "poisson"],
            2,
            "model.likelihood is poisson; it must be one of bernoulli, gaussian, discretized_logistic",
        ),
        (
            ["--model.family", "dcgan", "--model.game.loss", "vanilla"],
            2,
            "model.game.loss is vanilla; it must be one of non_saturating, hinge, wasserstein",
        ),
        (["--model.family", "dcgan", "--model.game.r1", "1"], 2, "model.discriminator_norm is batch"),
        (["--seed", "-1"], 2, "seed is -1"),
        (["--seed", "18446744073709551616"], 2, "seed is 18446744073709551616; it must be 0 to 18446744073709551615"),
        (["--model.latent_dim", "1000000000000"], 1, "model.* asks for weights that cannot be allocated"),
        (["--model.latent_dim", "1000000000000000000"], 1, "model.* asks for weights that cannot be allocated"),
        (["--model.latent_dim", "100000000000000000000"], 1, "model.* asks for weights that cannot be allocated"),
        (["--model.family", "dcgan", "--trainer.batch_size", "1"], 1, "batch normalisation needs at least 2 images"),
        (["--model.family", "mlp_gan", "--trainer.batch_size", "1"], 1, "trainer.batch_size is 1; batch"),
        (["--trainer.devices", "1000000"], 1, "trainer.devices is 1000000, but there are "),
        (["--data.root", "photos"], 2, "data.root is photos, but digits have no files; set data.name to mnist or"),
        (["--data.name", "mnist"], 2, "data.root is not set; mnist data needs the folder of its files"),
        (["--data.size", "30"], 1, "multiples of 4, not 30x30"),
        (["--config", "/nowhere/run.yaml"], 2, "--config /nowhere/run.yaml"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(
    capsys: Capture, tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    found, line = failure(capsys, [*options, "--output", str(tmp_path / "run")])
    assert line.startswith("latentserve-train: error: ")
    assert message in line
    assert found == code
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {family: gan}", "known are"),
        (
            "seed: 2\ntrainer:\n  epoch: 3",
            "run.yaml:3: trainer.epoch: there is no such option; did you mean trainer.epochs?",
        ),
        (
            "seed: 2\ntrainer:\n  epochs: two",
            "run.yaml:3: trainer.epochs is two; it must be a whole number (Passes over",
        ),
        ("seed: 2\ntrainer:\n  epochs: 0", "run.yaml:3: trainer.epochs is 0; it must be at least 1"),
        ("seed: x", "run.yaml:1: seed is x; it must be a whole number (Seed of weights"),
        ("bogus: x", "run.yaml:1: bogus: there is no such option"),
        ("data: {root: off}", "run.yaml:1: data.root is false; it must be a path: put it in quotes"),
        ("- 1", "no mapping"),
        ("a: [", "--config"),
        ("model: {family: [x]}", "model.family is ['x']; known are"),
        ("model: [x]", "run.yaml: model is ['x']; it must hold options of its own"),
        ("seed: 1 # caf\xe9", "can't decode byte 0xe9"),
        ("data: {root: 2020-99-99}", "run.yaml: month must be in 1..12"),
        ("seed: !!timestamp x", "--config"),
        ("trainer: 5", "run.yaml: trainer is 5; it must hold options of its own"),
        ("seed: 2\ntrainer:\n", "run.yaml: trainer is empty; it must hold options of its own"),
        ("data: digits", "run.yaml: data is 'digits'; it must hold options of its own"),
        ("model: {objective: 3}", "run.yaml: model.objective is 3; it must hold options of its own"),
        ("model: {family: mlp_gan, game: 3}", "run.yaml: model.game is 3; it must hold options of its own"),
    ],
)
def test_a_wrong_config_file_is_one_line(capsys: Capture, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content, encoding="latin-1")
    code, line = failure(capsys, ["--config", str(path), "--output", str(tmp_path / "run")])
    assert code == 2
    assert message in line


def test_what_a_flag_says_is_not_put_down_to_a_file(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("trainer: {epochs: 1}")
    argv = ["--config", str(path), "--trainer.epochs=two", "--output", str(tmp_path / "run")]
    assert failure(capsys, argv)[1].startswith("latentserve-train: error: trainer.epochs is two; it must be")


def test_of_two_files_the_last_that_has_the_option_is_named(capsys: Capture, tmp_path: Path) -> None:
    for name, text in {"1": "seed: x", "2": "# ours\nseed: y", "3": "data: {size: 8}"}.items():
        (tmp_path / name).write_text(text)
    argv = [f"--config={tmp_path / name}" for name in "123"]
    assert failure(capsys, argv)[1].startswith("latentserve-train: error: ")
    (tmp_path / "1").write_text("seed: 1")
    assert failure(capsys, argv)[1].startswith(f"latentserve-train: error: {tmp_path}/2:2: seed is y; it must be")


@pytest.mark.parametrize(
    ("main", "options", "message"),
    [
        (commands.evaluate, ["--samples", "many"], "--samples is many; it must be a whole number (Images to draw"),
        (commands.evaluate, ["--sample", "1"], "--sample: there is no such option; did you mean --samples?"),
        (
            commands.export,
            ["--repository", "m", "--version", "x"],
            "--version is x; it must be a whole number (Version of the bundle",
        ),
        (
            commands.export,
            ["--repository", "m", "--precisions", "int9"],
            "--precisions is int9; it must be one of float16, int8",
        ),
        (commands.export, [], "--repository is missing"),
        (commands.import_model, [], "--repository, --name are missing"),
    ],
)
def test_a_wrong_option_of_another_command_is_one_line(
    capsys: Capture, main: Callable[[list[str]], int], options: list[str], message: str
) -> None:
    code, line = failure(capsys, ["run", *options], main)
    assert (code, message in line) == (2, True), line


def test_a_picture_in_the_place_of_options_is_one_line(capsys: Capture, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "1.png")
    code, line = failure(capsys, ["--trainer", str(tmp_path / "1.png"), "--output", str(tmp_path / "run")])
    assert (code, "--trainer: a file of options must be YAML" in line) == (2, True)


def test_labels_are_not_judged_where_there_are_none(capsys: Capture, trained: Callable[[str], Path]) -> None:
    code, line = failure(capsys, [str(trained("mlp_vae")), "--classifier-score"], commands.evaluate)
    assert (code, "--classifier-score is for conditional models; mlp_vae is none" in line) == (1, True)


@pytest.mark.parametrize("url", ["s3://bucket/models", "gs://bucket"])
def test_a_bundle_is_not_published_to_a_folder_named_as_a_url(
    capsys: Capture, trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, line = failure(capsys, [str(trained("mlp_vae")), "--repository", url], commands.export)
    assert (code, f"{url} is a URL; publish into a folder" in line) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_config_file_that_is_no_utf8_is_named_whatever_the_flags(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe")
    argv = ["--config", str(path), "--model.family", "mlp_vae", "--output", str(tmp_path / "run")]
    assert failure(capsys, argv)[1].startswith(f"latentserve-train: error: --config {path}: 'utf-8' codec can't")


def test_a_step_that_does_not_fit_in_memory_is_one_line(capsys: Capture) -> None:
    argv = ["--model.family", "mlp_vae", "--model.objective.draws", "1000000000000", "--dry_run"]
    code, line = failure(capsys, argv)
    assert line.startswith("latentserve-train: error: not enough memory: ")
    assert code == 1


_WITH_LITTLE_MEMORY = """
import resource, sys
from latentserve_training import commands
from latentserve_training.run import train
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (300 << 20),) * 2)
sys.exit(commands.train(sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's accounts of a process's memory")
def test_weights_that_fit_once_but_not_twice_are_one_line(tmp_path: Path) -> None:
    """The weights take 200 MB; what is over is too little for their average."""
    argv = arguments("mlp_vae", tmp_path / "run", "--model.latent_dim", "1000000")
    script = [sys.executable, "-c", _WITH_LITTLE_MEMORY, *argv]
    done = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.stderr.startswith("latentserve-train: error: model.* asks for weights that cannot be allocated")
    assert done.returncode == 1


def test_a_seed_of_an_evaluation_is_bounded(capsys: Capture, trained: Callable[[str], Path]) -> None:
    code, line = failure(capsys, [str(trained("mlp_vae")), "--seed", "4294967296"], commands.evaluate)
    assert (code, "--seed is 4294967296; it must be at most 4294967295" in line) == (2, True)


def test_the_largest_seeds_work(trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "1", "--seed", str(2**64 - 1))) == 0
    assert commands.evaluate([str(run), "--samples", "100", "--nll-draws", "1", "--seed", str(2**32 - 1)]) == 0


def test_the_folder_of_the_run_is_required(capsys: Capture) -> None:
    code, line = failure(capsys, [])
    assert code == 2
    assert "output" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_not_silently_replaced(capsys: Capture, tmp_path: Path) -> None:
    code, line = failure(capsys, ["--trainer.device", "cuda", "--output", str(tmp_path / "run")])
    assert (code, "no CUDA device is available" in line) == (1, True)


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.iterdir()))
def test_every_shipped_config_prints_resolved_and_reads_back(capsys: Capture, tmp_path: Path, config: str) -> None:
    argv = ["--config", str(CONFIGS / config), "--output", "run", "--print_config"]
    with pytest.raises(SystemExit) as stop:
        commands.train(argv)
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    resolved = yaml.safe_load(printed)
    assert resolved["model"]["family"] in FAMILIES
    assert resolved["model"]["learning_rate"] > 0
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    with pytest.raises(SystemExit):
        commands.train(["--config", str(again), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out) == resolved


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_help_describes_every_option_of_the_family(capsys: Capture, family: str) -> None:
    with pytest.raises(SystemExit) as stop:
        commands.train(["--model.family", family, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for field in FAMILIES[family].__dataclass_fields__:
        described = text.split(f"  --model.{field} ", 1)[1].split("\n  --")[0].split()
        assert len(described) > 1, field


def test_a_run_that_goes_well_says_nothing_on_standard_error(capsys: Capture, tmp_path: Path) -> None:
    argv = arguments("mlp_vae", tmp_path / "run", "--trainer.epochs", "1", "--trainer.precision", "bfloat16")
    assert commands.train(argv) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "in bfloat16" in said.out


def test_flags_override_files(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {family: mlp_vae, latent_dim: 3}\ntrainer: {epochs: 7}\n")
    with pytest.raises(SystemExit):
        commands.train(["--config", str(path), "--trainer.epochs", "2", "--print_config"])
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert (resolved["model"]["latent_dim"], resolved["trainer"]["epochs"]) == (3, 2)


def test_the_resolved_configuration_is_kept_in_the_run(trained: Callable[[str], Path]) -> None:
    kept = yaml.safe_load((trained("mlp_vae") / "config.yaml").read_text())
    assert kept["model"] == {
        "family": "mlp_vae",
        "latent_dim": 2,
        "wide": 32,
        "narrow": 16,
        "activation": "relu",
        "learning_rate": 1e-3,
        "likelihood": "bernoulli",
        "objective": {"beta": 1.0, "warm_up_epochs": 0.0, "free_bits": 0.0, "draws": 1},
    }
    assert kept["data"]["size"] == 8


def test_colour_images_of_any_multiple_of_four_train(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{number}.png")
    argv = arguments("conv_vae", tmp_path / "run", "--data.name", "folder", "--data.root", str(tmp_path / "images"))
    argv[argv.index("--data.size") : argv.index("--data.size") + 2] = []
    argv[argv.index("--trainer.batch_size") + 1] = "8"
    assert commands.train(argv) == 0
    assert commands.evaluate([str(tmp_path / "run")]) == 0
    assert commands.export([str(tmp_path / "run"), "--repository", str(tmp_path / "models")]) == 0


@pytest.mark.parametrize("main", [commands.evaluate, commands.export])
def test_a_folder_that_is_no_run_is_refused(capsys: Capture, tmp_path: Path, main: Callable[[list[str]], int]) -> None:
    more = ["--repository", str(tmp_path / "models")] if main is commands.export else []
    code, line = failure(capsys, [str(tmp_path), *more], main)
    assert (code, "holds no checkpoint" in line) == (1, True)


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "import_model"])
def test_the_version_is_told_before_torch_is_imported(command: str) -> None:
    check = (
        f"import sys; from latentserve_training import commands; commands.{command}(['--version']);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout == f"latentserve-{command.removesuffix('_model')} {version('latentserve-training')}\n"


@pytest.mark.parametrize("main", [commands.train, commands.evaluate])
def test_the_version_is_told_among_other_words_too(capsys: Capture, main: Callable[[list[str]], int]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--seed", "1", "--version"])
    assert capsys.readouterr().out.endswith(f" {version('latentserve-training')}\n")


def test_the_command_restarts_before_it_imports_torch() -> None:
    check = "import sys, latentserve_training.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
