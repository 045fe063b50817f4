"""Files at a URL; alone imports fsspec."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from latentserve_server.errors import ConfigError

_logger = logging.getLogger(__name__)

T = TypeVar("T")

_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_PART_BYTES = 8 << 20
_REASON_CHARACTERS = 300

SCHEMES: Final = {"file": None, "gs": "gcs", "s3": "s3"}
"""The schemes of a URL, each with the extra of this package that it needs."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "file": {},
    "gs": {"requests_timeout": _READ_SECONDS},
    "s3": {
        "config_kwargs": {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retries": {"total_max_attempts": 2},
        }
    },
}


_UNKNOWN_CREDENTIALS = frozenset(
    (
        *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken"),
        *("InvalidTokenId", "RequestExpired", "SignatureDoesNotMatch", "TokenRefreshRequired"),
        *("UnrecognizedClientException", "NoCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        "UnauthorizedSSOTokenError",
    )
)
"""What S3 services answer to credentials that are not valid any more, and the errors of clients that find none."""

_WITHOUT_REASON = frozenset(("400", "401", "403"))
"""What they answer to HEAD then, and where something is not allowed."""


def scheme_of(place: str) -> str | None:
    """The scheme of a URL; None where the place is a directory."""
    scheme, separator, _ = place.partition("://")
    return scheme if separator else None


class RemoteFiles:
    """The files below a URL. Paths are relative to it. Every error of the store is an OSError of one line."""

    def __init__(self, url: str) -> None:
        """Nothing is reached for yet; only the libraries are loaded.

        Raises:
            ConfigError: the library of the scheme, one of SCHEMES, is missing or refuses the URL.
        """
        scheme = scheme_of(url)
        assert scheme in SCHEMES, "which the configuration has checked"
        try:
            self._files, root = _connect(url)
        except ImportError as error:
            needed = f"latentserve-server[{SCHEMES[scheme]}]"
            raise ConfigError(f"--repository {url}: needs the package {needed}: {_reason(error)}") from error
        except Exception as error:  # each library has errors of its own
            raise ConfigError(f"--repository {url}: {_reason(error)}") from error
        self._url = url
        self._is_local = scheme == "file"
        self._root = root.rstrip("/")
        self._closed = threading.Event()

    def close(self) -> None:
        """End what is being read on another thread, at its next part."""
        self._closed.set()

    def names(self, path: str = "") -> tuple[list[str], list[str]]:
        """The names of the folders in a folder, and of what else is there, both in order.

        Raises:
            FileNotFoundError: it is not there, or the bucket is not. OSError: it cannot be listed.
        """
        with _one_kind_of_error():
            try:
                found = self._ask(lambda files: files.ls(self._at(path), detail=True))
            except FileNotFoundError as error:
                if self._is_local or error.__cause__ is not None:
                    raise
                found = []  # no answer of the store's: it has no empty folders, so nothing begins with this path
        folders, files = list[str](), list[str]()
        for entry in found:
            if name := str(entry["name"]).rstrip("/").rpartition("/")[2]:
                (folders if entry["type"] == "directory" else files).append(name)
        return sorted(folders), sorted(files)

    def parts(self, path: str, max_bytes: int) -> Iterator[bytes]:
        """The bytes of a file, part by part; it ends early once over `max_bytes` have come.

        Raises:
            FileNotFoundError: there is no such file. OSError: it cannot be read, or `close` was called.
        """
        read, place = 0, self._at(path)
        if self._is_local and self._files.exists(place) and not self._files.isfile(place):
            raise OSError("not a regular file")  # a pipe would have us wait for its other end
        with _one_kind_of_error(), self._ask(lambda files: files.open(place, "rb", cache_type="none")) as file:
            while read <= max_bytes and (part := file.read(min(_PART_BYTES, max_bytes + 1 - read))):
                if self._closed.is_set():
                    raise OSError("the server is stopping")
                read += len(part)
                yield part

    def read(self, path: str, max_bytes: int) -> bytes:
        """The bytes of a file, one more than `max_bytes` at most.

        Raises:
            FileNotFoundError: there is no such file. OSError: it cannot be read.
        """
        return b"".join(self.parts(path, max_bytes))

    def replace(self, path: str, data: bytes) -> None:
        """Write a file, so that a reader sees what it was or what it is.

        Raises:
            OSError: it cannot be written.
        """
        folder, _, name = path.rpartition("/")
        staged = self._at(f"{folder}/.{name}") if self._is_local else self._at(path)
        with _one_kind_of_error():
            self._ask(lambda files: files.pipe_file(staged, data))
            if self._is_local:  # an object appears at once, a local file as it is written
                self._files.mv(staged, self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")

    def _ask(self, question: Callable[[Any], T]) -> T:
        """The store's answer. Where it does not know our credentials, it is asked again with those that there are now.

        A client library finds those of a file once, and keeps them for as long as it lives.
        """
        try:
            return question(self._files)
        except Exception as error:  # each library has errors of its own
            if not self._are_credentials_unknown(error):
                raise
        _logger.info("%s does not take the credentials; they are looked for again", self._url)
        self._files, _ = _connect(self._url)
        return question(self._files)

    def _are_credentials_unknown(self, error: Exception) -> bool:
        answers = _answers(error)
        if answers & _WITHOUT_REASON:
            try:
                self._files.ls(self._root, detail=True)
            except Exception as clearer:  # each library has errors of its own
                answers |= _answers(clearer)
        return bool(answers & _UNKNOWN_CREDENTIALS)


def _connect(url: str) -> tuple[Any, str]:
    """The files of a URL's store, and the place among them. Credentials are found when something is asked first."""
    import fsspec  # a server of local models loads nothing of it

    scheme = scheme_of(url) or ""
    options = {"skip_instance_cache": True, "use_listings_cache": False, **_OPTIONS[scheme]}
    files, root = fsspec.core.url_to_fs(url, **options)
    if scheme == "s3":
        files.retries = 2  # the library's own attempts, of which each makes those of the configuration above
    return files, str(root)


def _answers(error: BaseException | None) -> set[str]:
    """The codes that a store answered with, and the names of the errors, along the causes of an error."""
    answers = set[str]()
    while error is not None:
        answers.add(type(error).__name__)
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            answers.add(str(response.get("Error", {}).get("Code")))
        error = error.__cause__
    return answers


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """Let a missing file or permission be told by its type, and make an OSError of one line of everything else."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise type(error)(_reason(error)) from error
    except Exception as error:  # each library has errors of its own
        raise OSError(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(str(text).split()) or type(error).__name__
    return line if len(line) <= _REASON_CHARACTERS else f"{line[:_REASON_CHARACTERS]}..."
