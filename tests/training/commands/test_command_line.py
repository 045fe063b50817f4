"""The three commands as their users meet them: what is refused, in one line, and with which exit code."""

from __future__ import annotations

import json
import os
import re
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
from training.foreign_models import GAN, TANH, write
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


NO_OPTION = "there is no such option"
MAPS = (
    "whole numbers (Channels, height and width of image-shaped latents, without dense layers; latent_dim is then their "
    "product)"
)
KNOWN = "known are conv_vae, mlp_vae, cvae, mlp_gan, dcgan, wgan_gp, cgan"
WHOLE, POSITIVE, FRACTION = "a whole number", "positive and finite", "at least 0 and less than 1"
EPOCHS = "(Passes over the training images; the only option that may change later, to no fewer than are done)"
OWN, TOO_LARGE = "it must hold options of its own", "model.* asks for weights that cannot be allocated: ..."
BATCH_NORM = "trainer.batch_size is 1; batch normalisation needs at least 2 images a device, 2"
SEEDS = "it must be 0 to 18446744073709551615"
DCGAN, MLP_GAN = ["--model.family", "dcgan"], ["--model.family", "mlp_gan"]
OPTIONS: list[tuple[list[str], int, str]] = [
    (["--model.latent_dims", "3"], 2, f"--model.latent_dims: {NO_OPTION}; did you mean --model.latent_dim?"),
    (
        ["--model.latent_dim", "many"],
        2,
        f"model.latent_dim is many; it must be {WHOLE} (Number of latent dimensions)",
    ),
    (["--trainer.epoch", "3"], 2, f"--trainer.epoch: {NO_OPTION}; did you mean --trainer.epochs?"),
    (["--trainer.batches", "3"], 2, f"--trainer.batches: {NO_OPTION}"),
    (["--trainer.epochs", ""], 2, f"trainer.epochs is empty; it must be {WHOLE} {EPOCHS}"),
    (["--trainer.epochs"], 2, "--trainer.epochs: expected one argument"),
    (["--config"], 2, "--config: expected one argument"),
    (
        ["--data.size", "x"],
        2,
        f"data.size is x; it must be {WHOLE} (Height and width to resize to, in pixels. "
        "Only for digits (28 when absent) and folder (the files' own size))",
    ),
    (["--model.learning_rate", "true"], 2, "model.learning_rate is true; it must be a number (Adam's step size)"),
    (["--model.objective", "3"], 2, "model.objective is 3; it must be options of its own, or a YAML file of them"),
    (["--trainer", "{epochs: x}"], 2, f"trainer.epochs is x; it must be {WHOLE} {EPOCHS}"),
    (["digits"], 2, "digits: belongs to no option"),
    (["--data.name", "cifar"], 2, "data.name is cifar; it must be one of digits, mnist, folder"),
    (["--model.family", "diffusion"], 2, f"model.family is 'diffusion'; {KNOWN}"),
    (
        ["--model.family", "mlp_vae", "--model.narrower", "1"],
        2,
        f"--model.narrower: {NO_OPTION}; did you mean --model.narrow?",
    ),
    (["--trainer.epochs", "0"], 2, "trainer.epochs is 0; it must be at least 1"),
    (["--trainer.ema_decay", "1"], 2, f"trainer.ema_decay is 1.0; it must be {FRACTION}"),
    (["--trainer.batch_size", "5000"], 1, "trainer.batch_size is 5000, but there are 1437 training images"),
    (["--model.learning_rate", "-1"], 2, f"model.learning_rate is -1.0; it must be {POSITIVE}"),
    (["--model.learning_rate", ".nan"], 2, f"model.learning_rate is nan; it must be {POSITIVE}"),
    ([*MLP_GAN, "--model.dropout", "1"], 2, f"model.dropout is 1.0; it must be {FRACTION}"),
    (
        [*MLP_GAN, "--model.min_diversity", ".nan"],
        2,
        "model.min_diversity is nan; it must be finite and not negative",
    ),
    ([*MLP_GAN, "--model.beta1", ".nan"], 2, f"model.beta1 is nan; it must be {FRACTION}"),
    ([*DCGAN, "--model.width", "0"], 2, f"model.width is 0; it must be {POSITIVE}"),
    ([*DCGAN, "--model.dense", "0"], 2, f"model.dense is 0; it must be {POSITIVE}"),
    (
        [*DCGAN, "--model.generator_learning_rate", "0"],
        2,
        f"model.generator_learning_rate is 0.0; it must be {POSITIVE}",
    ),
    (
        ["--model.family", "cgan", "--model.label_dim", "0"],
        2,
        f"model.label_dim is 0; it must be {POSITIVE}",
    ),
    (["--model.family", "wgan_gp", "--model.beta2", "1"], 2, f"model.beta2 is 1.0; it must be {FRACTION}"),
    (["--model.objective.beta", "-1"], 2, "model.objective.beta is -1.0; it must be finite and not negative"),
    (
        ["--model.objective.draw", "2"],
        2,
        f"--model.objective.draw: {NO_OPTION}; did you mean --model.objective.draws?",
    ),
    (
        ["--model.likelihood", "poisson"],
        2,
        "model.likelihood is poisson; it must be one of bernoulli, gaussian, discretized_logistic",
    ),
    (
        [*DCGAN, "--model.game.loss", "vanilla"],
        2,
        "model.game.loss is vanilla; it must be one of non_saturating, hinge, wasserstein",
    ),
    (
        [*DCGAN, "--model.game.r1", "1"],
        2,
        "model.discriminator_norm is batch, under which an image's score depends on the others of its batch, so that "
        "model.game.slope_penalty and model.game.r1 must be 0; or set it to spectral or none",
    ),
    (["--seed", "-1"], 2, f"seed is -1; {SEEDS}"),
    (["--seed", "18446744073709551616"], 2, f"seed is 18446744073709551616; {SEEDS}"),
    (["--model.latent_dim", "1000000000000"], 1, TOO_LARGE),
    (["--model.latent_dim", "1000000000000000000"], 1, TOO_LARGE),
    (["--model.latent_dim", "100000000000000000000"], 1, TOO_LARGE),
    (
        ["--model.family", "mlp_vae", "--model.objective.draws", "1000000000000", "--dry_run"],
        1,
        "not enough memory: ...",
    ),
    ([*DCGAN, "--trainer.batch_size", "1"], 1, BATCH_NORM),
    ([*MLP_GAN, "--trainer.batch_size", "1"], 1, BATCH_NORM),
    (["--trainer.devices", "1000000"], 1, "trainer.devices is 1000000, but there are ..."),
    (
        ["--data.root", "photos"],
        2,
        "data.root is photos, but digits have no files; set data.name to mnist or folder",
    ),
    (["--data.name", "mnist"], 2, "data.root is not set; mnist data needs the folder of its files"),
    (
        ["--data.size", "30"],
        1,
        "conv_vae takes images whose sides are multiples of 4, not 30x30; set data.size",
    ),
    (["--model.latent_shape", "[4, 2]"], 2, f"model.latent_shape is [4, 2]; it must be a list of 3 {MAPS}"),
    (
        ["--model.latent_shape", "[4, 0, 2]"],
        2,
        "model.latent_shape is [4, 0, 2]; it must be three numbers of at least 1, whose product is at most 65,536",
    ),
    (
        ["--model.latent_shape", "[4, 7, 7]", "--model.latent_dim", "12"],
        2,
        "model.latent_dim is 12, but a model.latent_shape of [4, 7, 7] has 196 values; leave model.latent_dim out",
    ),
    (
        ["--model.latent_shape", "[4, 4, 7]"],
        1,
        "model.latent_shape is [4, 4, 7]; for images of 28x28 a latent is 14x14 or 7x7, their sides halved",
    ),
    (["--config", "/nowhere/run.yaml"], 2, "--config /nowhere/run.yaml: No such file or directory"),
]
OF_TORCH_AND_MACHINE = re.compile("(?<=cannot be allocated: ).+|(?<=not enough memory: ).+|(?<=but there are )[0-9] .+")
"""What PyTorch says, and how many devices there are."""


@pytest.mark.parametrize(("options", "code", "message"), OPTIONS)
def test_a_wrong_option_is_one_line_that_names_it(
    capsys: Capture, tmp_path: Path, options: list[str], code: int, message: str
) -> None:
    found, line = failure(capsys, [*options, "--output", str(tmp_path / "run")])
    said = OF_TORCH_AND_MACHINE.sub("...", line.rstrip("\n"))
    assert (found, said) == (code, f"latentserve-train: error: {message}")
    assert not (tmp_path / "run").exists()


AT, FILE = "{path}:", "--config {path}: "
CONFIG_FILES: list[tuple[bytes | str, str]] = [
    ("model: {family: gan}", f"{AT}1: model.family is 'gan'; {KNOWN}"),
    ("model: {family: [x]}", f"{AT}1: model.family is ['x']; {KNOWN}"),
    (
        "seed: 2\ntrainer:\n  epoch: 3",
        f"{AT}3: trainer.epoch: {NO_OPTION}; did you mean trainer.epochs?",
    ),
    ("seed: 2\ntrainer:\n  epochs: two", f"{AT}3: trainer.epochs is two; it must be {WHOLE} {EPOCHS}"),
    ("seed: 2\ntrainer:\n  epochs: 0", f"{AT}3: trainer.epochs is 0; it must be at least 1"),
    ("seed: x", f"{AT}1: seed is x; it must be {WHOLE} (Seed of weights, data order and noise)"),
    ("bogus: x", f"{AT}1: bogus: {NO_OPTION}"),
    ("data: {root: off}", f"{AT}1: data.root is false; it must be a path: put it in quotes"),
    ("- 1", f"{FILE}holds no mapping of options"),
    ("a: [", f"{FILE}..."),
    ("seed: \0", f"{FILE}..."),
    (b"seed: 1 # caf\xe9", f"{FILE}..."),
    (b"\xff\xfe", f"{FILE}..."),
    ("data: {root: 2020-99-99}", f"{FILE}..."),
    ("seed: !!timestamp x", f"{FILE}a value is not what its tag says"),
    ("model: [x]", f"{FILE}model is ['x']; {OWN}"),
    ("trainer: 5", f"{FILE}trainer is 5; {OWN}"),
    ("seed: 2\ntrainer:\n", f"{FILE}trainer is empty; {OWN}"),
    ("data: digits", f"{FILE}data is 'digits'; {OWN}"),
    ("model: {objective: 3}", f"{FILE}model.objective is 3; {OWN}"),
    ("model: {family: mlp_gan, game: 3}", f"{FILE}model.game is 3; {OWN}"),
]


@pytest.mark.parametrize(("content", "message"), CONFIG_FILES)
def test_a_wrong_config_file_is_one_line(capsys: Capture, tmp_path: Path, content: bytes | str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, line = failure(capsys, ["--config", str(path), "--output", str(tmp_path / "run")])
    assert code == 2
    beginning = f"latentserve-train: error: {message.format(path=path)}"
    if message.endswith("..."):  # PyYAML's and Python's own words
        assert line.startswith(beginning.removesuffix("..."))
    else:
        assert line == f"{beginning}\n"


def test_what_a_flag_says_is_not_put_down_to_a_file(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("trainer: {epochs: 1}")
    argv = ["--config", str(path), "--trainer.epochs=two", "--output", str(tmp_path / "run")]
    assert failure(capsys, argv)[1].startswith("latentserve-train: error: trainer.epochs is two;")


def test_of_two_files_the_last_that_has_the_option_is_named(capsys: Capture, tmp_path: Path) -> None:
    for name, text in {"1": "seed: x", "2": "# ours\nseed: y", "3": "data: {size: 8}"}.items():
        (tmp_path / name).write_text(text)
    argv = [f"--config={tmp_path / name}" for name in "123"]
    assert failure(capsys, argv)[1].startswith("latentserve-train: error: ")
    (tmp_path / "1").write_text("seed: 1")
    assert failure(capsys, argv)[1].startswith(f"latentserve-train: error: {tmp_path}/2:2: seed is y;")


URL = "is a URL; publish into a folder, and copy its bundles there"
NO_RUN = "run holds no checkpoint; it is not the output of latentserve-train"
LAST_VERSION = 10**18 - 1
NO_NAME = "is not a model name: letters, digits, '.', '_' and '-', the first neither '.' nor '-'"
OTHER_COMMANDS: list[tuple[str, list[str], int, str]] = [
    ("train", [], 2, "--output is missing; it names the folder of the run"),
    ("evaluate", ["run"], 1, NO_RUN),
    (
        "evaluate",
        ["run", "--samples", "many"],
        2,
        f"--samples is many; it must be {WHOLE} (Images to draw from the model)",
    ),
    ("evaluate", ["run", "--samples", "1"], 2, "--samples is 1; it must be at least 100"),
    ("evaluate", ["run", "--samples", "99"], 2, "--samples is 99; it must be at least 100"),
    (
        "evaluate",
        ["run", "--samples", "1000000000000"],
        2,
        "--samples is 1000000000000; it must be at most 10000000",
    ),
    ("evaluate", ["run", "--nll-draws", "-1"], 2, "--nll-draws is -1; it must be at least 0"),
    ("evaluate", ["run", "--nll-images", "0"], 2, "--nll-images is 0; it must be at least 1"),
    ("evaluate", ["run", "--classifier-steps", "0"], 2, "--classifier-steps is 0; it must be at least 1"),
    ("evaluate", ["run", "--seed", "-1"], 2, "--seed is -1; it must be at least 0"),
    ("evaluate", ["run", "--sample", "1"], 2, f"--sample: {NO_OPTION}; did you mean --samples?"),
    ("evaluate", ["run", "--model", "m"], 2, f"--model: {NO_OPTION}"),
    ("evaluate", ["run", "--seed", "4294967296"], 2, "--seed is 4294967296; it must be at most 4294967295"),
    ("export", ["run"], 2, "--repository is missing"),
    ("export", ["run", "--number", "1"], 2, f"--number: {NO_OPTION}"),
    ("export", ["run", "--repository", "m"], 1, NO_RUN),
    ("export", ["run", "--repository", "s3://bucket/models"], 2, f"--repository: s3://bucket/models {URL}"),
    ("export", ["run", "--repository", "gs://bucket"], 2, f"--repository: gs://bucket {URL}"),
    (
        "export",
        ["run", "--repository", "m", "--version", "x"],
        2,
        f"--version is x; it must be {WHOLE} (Version of the bundle, at least 1)",
    ),
    (
        "export",
        ["run", "--repository", "m", "--version", "0"],
        2,
        f"--version is 0; it must be from 1 to {LAST_VERSION}",
    ),
    (
        "export",
        ["run", "--repository", "m", "--version", f"{LAST_VERSION + 1}"],
        2,
        f"--version is {LAST_VERSION + 1}; it must be from 1 to {LAST_VERSION}",
    ),
    *(
        ("export", ["run", "--repository", "m", "--name", name], 2, f"--name '{name}' {NO_NAME}")
        for name in ("../escape", ".hidden", "")
    ),
    (
        "export",
        ["run", "--repository", "m", "--precisions", "int9"],
        2,
        "--precisions is int9; it must be one of float16, int8",
    ),
    ("import", ["model.yaml"], 2, "--repository, --name are missing"),
    ("import", ["model.yaml", "--repository", "m", "--name", "m"], 2, "model.yaml: No such file or directory"),
]
COMMANDS = {
    "train": commands.train,
    "evaluate": commands.evaluate,
    "export": commands.export,
    "import": commands.import_model,
}


@pytest.mark.parametrize(("name", "argv", "code", "message"), OTHER_COMMANDS)
def test_a_wrong_option_of_another_command_is_one_line(
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    argv: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert failure(capsys, argv, COMMANDS[name]) == (code, f"latentserve-{name}: error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_in_the_place_of_options_is_one_line(capsys: Capture, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "1.png")
    code, line = failure(capsys, ["--trainer", str(tmp_path / "1.png"), "--output", str(tmp_path / "run")])
    assert (code, "--trainer: " in line) == (2, True)


def test_labels_are_not_judged_where_there_are_none(capsys: Capture, trained: Callable[[str], Path]) -> None:
    code, line = failure(capsys, [str(trained("mlp_vae")), "--classifier-score"], commands.evaluate)
    assert (code, "--classifier-score is " in line) == (1, True)


def test_a_config_file_that_is_no_utf8_is_named_whatever_the_flags(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe")
    argv = ["--config", str(path), "--model.family", "mlp_vae", "--output", str(tmp_path / "run")]
    assert failure(capsys, argv)[1].startswith(f"latentserve-train: error: --config {path}: ")


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
    assert done.stderr.startswith("latentserve-train: error: model.* asks ")
    assert done.returncode == 1


def test_the_largest_seeds_work(trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert commands.train(arguments("mlp_vae", run, "--trainer.epochs", "1", "--seed", str(2**64 - 1))) == 0
    assert commands.evaluate([str(run), "--samples", "100", "--nll-draws", "1", "--seed", str(2**32 - 1)]) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_not_silently_replaced(capsys: Capture, tmp_path: Path) -> None:
    code, line = failure(capsys, ["--trainer.device", "cuda", "--output", str(tmp_path / "run")])
    assert (code, "trainer.device is cuda" in line) == (1, True)


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


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "import_model"])
def test_the_version_is_told_before_torch_is_imported(command: str) -> None:
    check = (
        f"import sys; from latentserve_training import commands; commands.{command}(['--version']);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout == f"latentserve-{command.removesuffix('_model')} {version('latentserve-training')}\n"


@pytest.mark.parametrize("words", [["--help"], ["--no-such-option"]])
@pytest.mark.parametrize("command", ["evaluate", "export", "import_model"])
def test_options_are_read_before_torch_is_imported(command: str, words: list[str]) -> None:
    assert imported_by(command, words, "torch", "onnx") == []


@pytest.mark.parametrize("words", [["--help"], ["--no-such-option"]])
def test_options_of_a_run_are_read_before_what_few_runs_need_is_imported(words: list[str]) -> None:
    assert imported_by("train", words, "lightning", "onnx", "onnxruntime", "sklearn", "tensorboard") == []


def test_an_import_does_without_torch(tmp_path: Path) -> None:
    write(tmp_path / "g.onnx", TANH)
    (tmp_path / "gan.yaml").write_text(json.dumps({**GAN, "image_range": [-1, 1]}))
    words = [str(tmp_path / "gan.yaml"), "--repository", str(tmp_path / "models"), "--name", "m"]
    assert imported_by("import_model", words, "torch", "sklearn") == []
    assert (tmp_path / "models" / "m" / "1" / "manifest.json").exists()


def imported_by(command: str, words: list[str], *modules: str) -> list[str]:
    """Those of the modules that a command has imported when it ends."""
    check = (
        "import contextlib, sys; from latentserve_training import commands\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
        f"    commands.{command}({words})\n"
        f"print(*({set(modules)} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize("main", [commands.train, commands.evaluate])
def test_the_version_is_told_among_other_words_too(capsys: Capture, main: Callable[[list[str]], int]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--seed", "1", "--version"])
    assert capsys.readouterr().out.endswith(f" {version('latentserve-training')}\n")


def test_the_command_restarts_before_it_imports_torch() -> None:
    check = "import sys, latentserve_training.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
