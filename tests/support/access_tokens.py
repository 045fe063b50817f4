"""Files of tokens for servers under test, and the metadata of callers who have the tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentserve_server.access.token_file import write_token_entry
from latentserve_server.access.tokens import make_token

NEEDED = "a valid bearer token is needed"
FORBIDDEN = "the caller's token does not permit this"

Metadata = tuple[tuple[str, str], ...]


def bearer(token: str) -> Metadata:
    """What a caller with the token sends along."""
    return (("authorization", f"Bearer {token}"),)


class TokenShelf:
    """A file of tokens, which grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = ""
        self.secrets = dict[str, str]()
        """The tokens by their callers' names."""
        path.touch(0o600)

    def add(self, name: str, *scopes: str, models: Sequence[str] = (), **more: Any) -> str:
        """A new token of a caller with these scopes, `generate` without, in the file."""
        token = make_token()
        entry = {"name": name, "id": token.id, "sha256": token.digest.hex(), "scopes": list(scopes) or ["generate"]}
        entry |= {"models": list(models)} if models else {}
        self.write(self.text + write_token_entry(entry | more))
        self.secrets[name] = token.text
        return token.text

    def write(self, text: str) -> None:
        """Replace the file in one step, as whoever changes it should."""
        self.text = text
        draft = self.path.with_suffix(".draft")
        draft.touch(0o600)
        draft.write_text(text)
        draft.replace(self.path)

    def metadata(self, name: str) -> Metadata:
        """What a caller of this name sends along, whose token is there."""
        return bearer(self.secrets[name])

    def caller(self, name: str, *scopes: str, **more: Any) -> Metadata:
        """What such a caller sends along."""
        return bearer(self.add(name, *scopes, **more))


def json_web_key_set(*keys: dict[str, Any]) -> str:
    """The text of a set of such keys."""
    return json.dumps({"keys": keys})
