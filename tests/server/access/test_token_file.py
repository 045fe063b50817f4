"""The file of tokens: what it may hold, and how it is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from latentserve_server.access.allowance import Limits
from latentserve_server.access.caller import Scope
from latentserve_server.access.token_file import read_token_file
from latentserve_server.access.tokens import TokenTable, make_token
from latentserve_server.cli import main
from latentserve_server.errors import ConfigError, Unauthenticated

DIGEST = "ab" * 32
GOOD = f"- {{name: billing, id: a1, sha256: {DIGEST}, scopes: [generate]}}\n"


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read_token_file(text.encode(), "tokens.yaml")
    return str(refused.value)


def with_value(key: str, value: str) -> str:
    """A good entry, with another value for a key, or one more."""
    values = {"name": "billing", "id": "a1", "sha256": DIGEST, "scopes": "[generate]", key: value}
    return "\n  ".join(f"{name}: {text}" for name, text in values.items()).join(("- ", "\n"))


def test_an_entry_is_read_as_it_is_written() -> None:
    text = with_value("models", "[vae, 'colour-*', 0123]") + with_value("id", "0123456789").replace(DIGEST, "0" * 64)
    first, second = read_token_file(text.encode(), "tokens.yaml")
    assert (first.id, first.digest.hex(), first.caller.name) == ("a1", DIGEST, "billing")
    assert first.caller.scopes == {Scope.GENERATE}
    assert [first.caller.may_use(model) for model in ("vae", "colour-2", "0123", "Vae", "gan")] == [
        *[True] * 3,
        False,
        False,
    ]
    assert (second.id, second.digest) == ("0123456789", bytes(32))
    assert second.caller.may_use("anything")


def test_an_entry_may_state_limits() -> None:
    text = "\n  ".join(
        (with_value("calls_per_second", "0.5"), "rows_per_second: 100", "rows_in_flight: 0", "calls_in_flight: 7")
    )
    (entry,) = read_token_file(text.encode(), "tokens.yaml")
    assert entry.caller.limits == Limits(0.5, 100.0, 0, 7)
    (silent,) = read_token_file(GOOD.encode(), "tokens.yaml")
    assert silent.caller.limits == Limits()


def test_a_list_of_nothing_is_no_token() -> None:
    assert read_token_file(b"[]", "tokens.yaml") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tokens.yaml: holds nothing; write [] where there is to be no token"),
        ("- [", "tokens.yaml:1: no YAML: expected the node content, but found '<stream end>'"),
        ("a: 1", "tokens.yaml:1: must be a list of entries, each with name, id, sha256 and scopes"),
        ("\n- text", "tokens.yaml:2: must be a mapping with name, id, sha256 and scopes"),
        ("- {name: a}", "tokens.yaml:1: id is missing"),
        (with_value("scope", "[read]"), "tokens.yaml:5: scope: there is no such key; did you mean scopes?"),
        (with_value("[a]", "1"), "tokens.yaml:5: a key that is no text: there is no such key"),
        (f"{GOOD}  name: b", "tokens.yaml:2: no YAML: expected <block end>, but found '<block mapping start>'"),
        (with_value("sha256 ", DIGEST), "tokens.yaml:5: sha256: stands there twice"),
        (f"{GOOD}{GOOD}", "tokens.yaml:2: id: a1 stands there twice, first in line 1"),
        (with_value("name", "a b"), "tokens.yaml:1: name: 'a b' is not 1 to 128 letters, digits, '_', '.' and '-', the first neither . nor -"),  # noqa: E501
        (with_value("name", "jwt"), "tokens.yaml:1: name: 'jwt' stands for all callers with JSON Web Tokens; take another name"),  # noqa: E501
        (with_value("name", "[a]"), "tokens.yaml:1: name: must be one value, neither a list nor a mapping"),
        (with_value("id", "A1"), "tokens.yaml:2: id: 'A1' is not 1 to 32 of the letters a to z and digits"),
        (with_value("sha256", "ls_a1_secret"), "tokens.yaml:3: sha256: must be 64 hexadecimal digits, a to f in lower case: the SHA-256 digest of the secret"),  # noqa: E501
        (with_value("scopes", "[generat]"), "tokens.yaml:4: scopes: 'generat' is not one of generate, read, admin; did you mean generate?"),  # noqa: E501
        (with_value("scopes", "generate"), "tokens.yaml:4: scopes: must be a list of one or more of generate, read, admin"),  # noqa: E501
        (with_value("scopes", "[]"), "tokens.yaml:4: scopes: must be a list of one or more of generate, read, admin"),
        (with_value("models", "[]"), "tokens.yaml:5: models: must be a list of one or more names or patterns, such as vae-*"),  # noqa: E501
        (with_value("models", "['a/b']"), "tokens.yaml:5: models: 'a/b' is no pattern of names: letters, digits, and _ . - * ? [ ] !"),  # noqa: E501
        (with_value("expires", "2027-01-31T00:00:00"), "tokens.yaml:5: expires: '2027-01-31T00:00:00' is no date and time with its zone, such as 2027-01-31T00:00:00Z"),  # noqa: E501
        (with_value("calls_per_second", "-1"), "tokens.yaml:5: calls_per_second: '-1' is no number such as 0.5 or 100; 0 is no bound"),  # noqa: E501
        (with_value("rows_per_second", "nan"), "tokens.yaml:5: rows_per_second: 'nan' is no number such as 0.5 or 100; 0 is no bound"),  # noqa: E501
        (with_value("rows_in_flight", "1.5"), "tokens.yaml:5: rows_in_flight: '1.5' is no whole number such as 100; 0 is no bound"),  # noqa: E501
        (with_value("expires", "soon"), "tokens.yaml:5: expires: 'soon' is no date and time with its zone, such as 2027-01-31T00:00:00Z"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    assert problem(text) == said


def test_a_secret_in_the_place_of_its_digest_is_not_repeated() -> None:
    token = make_token().text
    assert token not in problem(with_value("sha256", token))


def entry_and_token(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[str, str]:
    """What the command says on standard error and on standard output."""
    assert main(["token", "--name=billing", *flags]) == 0
    captured = capsys.readouterr()
    return captured.err, captured.out


def test_the_command_makes_a_token_and_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--scopes=read,generate", "--models=vae,colour-*", "--expires=2099-01-31T00:00:00Z")
    flags += ("--rows-in-flight=9", "--calls-in-flight=8")
    entry, token = entry_and_token(capsys, *flags)
    assert token.count("\n") == 1
    (found,) = read_token_file(entry.encode(), "tokens.yaml")
    caller = TokenTable([found]).caller_of(token.strip())
    assert (caller.name, caller.scopes, caller.models) == (
        "billing",
        frozenset({Scope.READ, Scope.GENERATE}),
        ("vae", "colour-*"),
    )
    assert found.expires == 4073500800
    assert caller.limits == Limits(None, None, 9, 8)
    with pytest.raises(Unauthenticated):
        TokenTable([found]).caller_of(token.strip()[:-1] + ("A" if token.strip()[-1] != "A" else "B"))


def test_the_command_appends_to_a_file_that_nobody_else_may_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "tokens.yaml"
    tokens = [entry_and_token(capsys, f"--file={file}")[1].strip() for _ in range(3)]
    table = TokenTable(read_token_file(file.read_bytes(), "tokens.yaml"))
    assert [table.caller_of(token).name for token in tokens] == ["billing"] * 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.yaml"]
    assert all(token not in file.read_text() for token in tokens)


def test_a_file_that_is_there_keeps_its_mode_and_its_link(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file, link = tmp_path / "tokens.yaml", tmp_path / "link"
    file.write_text("[]\n")
    file.chmod(0o640)
    link.symlink_to(file)
    entry_and_token(capsys, f"--file={link}", "--days=30")
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert len(read_token_file(file.read_bytes(), "tokens.yaml")) == 1


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        ((), 2, "the following arguments are required: --name"),
        (("--name=a b",), 2, "--name: 'a b' is not"),
        (("--name=a", "--scopes=write"), 2, "--scopes: 'write' is not one of generate, read, admin"),
        (("--name=a", "--models=a/b"), 2, "--models: 'a/b' is no pattern"),
        (("--name=a", "--expires=soon"), 2, "--expires: 'soon' is no date"),
        (("--name=a", "--calls-per-second=x"), 2, "--calls-per-second: 'x' is no number"),
        (("--name=a", "--days=0"), 2, "--days: '0' is no number of days"),
        (("--name=a", "--days=1", "--expires=2099-01-31T00:00:00Z"), 2, "not allowed with argument"),
        (("--name=a", "--fil=x"), 2, "unrecognized arguments: --fil=x"),
        (("--name=a", "--file=/nowhere/tokens.yaml"), 1, "/nowhere/tokens.yaml: No such file or directory"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], status: int, said: str
) -> None:
    assert main(["token", *flags]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("latentserve-server token: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_file_that_cannot_be_appended_to_stays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(f"[{{name: billing, id: a1, sha256: {DIGEST}, scopes: [generate]}}]\n")
    before = file.read_bytes()
    assert main(["token", "--name=a", f"--file={file}"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, "tokens.yaml:2: no YAML" in captured.err) == ("", True)
    assert file.read_bytes() == before
