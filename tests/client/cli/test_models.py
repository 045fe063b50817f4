"""The commands that say what a server holds."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]


def test_models_are_a_table(run: Run) -> None:
    assert run("models") == (
        0,
        "NAME    VERSION  STATE        DEFAULT  ALIASES  CAPABILITIES                            MEMORY   REASON\n"
        "linear  1        ready        -        stable   sample,encode,decode,reconstruct,score  1.5 MiB  -\n"
        "linear  2        ready        yes      -        sample,encode,decode,reconstruct,score  3.0 MiB  -\n"
        "linear  3        unavailable  -        -        -                                       -        wrong "
        "digest\n",
        "",
    )


def test_a_model_is_described(run: Run) -> None:
    code, out, err = run("model", "linear@stable")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert (code, err) == (0, "")
    assert (facts["model"], facts["aliases"], facts["kind"], facts["device"]) == ("linear:1", "stable", "vae", "cpu")
    assert facts["precision"] == "int8"
    assert facts["numerics"] == "00c0ffee00c0ffee"
    assert "none promised: the last bits of a row depend on its batch" in run("model", "linear:2")[1]
    assert (facts["image"], facts["latent"]) == ("3 x 4 x 6, values 0 to 1", "5 dimensions")
    assert facts["test_nats"] == "12.5"
