"""The commands that say what a server holds, on a real one."""

from __future__ import annotations

from collections.abc import Callable

from model_shelf import BROKEN

Run = Callable[..., tuple[int, str, str]]


def test_models_are_a_table(run: Run) -> None:
    code, out, err = run("models")
    assert (code, err) == (0, "")
    header, *rows = (line.split(maxsplit=7) for line in out.splitlines())
    assert " ".join(header) == "NAME VERSION STATE DEFAULT ALIASES CAPABILITIES MEMORY REASON"
    assert [row[:5] for row in rows] == [
        ["linear", "1", "ready", "-", "stable"],
        ["linear", "2", "ready", "yes", "-"],
        ["linear", "3", "unavailable", "-", "-"],
    ]
    assert {row[5] for row in rows[:2]} == {"sample,encode,decode,reconstruct,score"}
    assert rows[2][7] == BROKEN


def test_a_model_is_described(run: Run) -> None:
    code, out, err = run("model", "linear@stable")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert (code, err) == (0, "")
    assert (facts["model"], facts["aliases"], facts["kind"], facts["device"]) == ("linear:1", "stable", "vae", "cpu")
    assert (facts["image"], facts["latent"]) == ("3 x 4 x 6, values 0 to 1", "5 dimensions")
    assert (facts["precision"], facts["test_nats"]) == ("float32", "12.5")


def test_a_misspelt_model_is_answered_with_those_there_are(run: Run) -> None:
    for model in ("linaer", "linear:9"):
        code, out, err = run("model", model)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.endswith("]; the server has linear (1 @stable, 2)\n")
