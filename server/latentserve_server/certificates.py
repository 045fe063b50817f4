"""The server's certificate in files, which is taken anew when they are replaced."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from latentserve_server.errors import ConfigError

_logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
"""Between looks at the files, at least: handshakes may come by the thousand."""

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no name."""

_FLIGHTS = 4
"""The turns of a handshake, at most."""

_UNREADABLE = ("PEM_LIB", "NO_START_LINE", "UNSUPPORTED")
"""What OpenSSL says of a key that is none, in some of its versions."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, and whose certificates clients must have."""

    number: int
    """Counts those that were taken, from 0."""
    chain: bytes
    """PEM, the server's own certificate first."""
    key: bytes
    """PEM."""
    client_ca: bytes | None
    """PEM; None where clients need no certificate."""
    expiry: float
    """When it ends, in seconds since 1970."""
    context: ssl.SSLContext
    """For servers that use Python's ssl."""


class CertificateError(Exception):
    """What keeps a certificate from being taken: the file, and what is wrong with it."""


class Certificates:
    """The certificate that counts now. Any thread may ask for it.

    The files are looked at when it is asked for, now and then. Where one has changed, or a link on the way to it, all
    are read, and taken if they fit together; else the certificate of before stays.
    """

    def __init__(self, cert: str, key: str, client_ca: str = "", *, seconds: float = _LOOK_SECONDS) -> None:
        """Take the certificate in the files; `client_ca` may be empty. `seconds` are those between two looks at them.

        Raises:
            ConfigError: it cannot be.
        """
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self.failures = 0
        """How often something was found in the files that could not be taken."""
        self._problem = ""
        self._turn = threading.Lock()
        self._seconds = seconds
        self._next_look = time.monotonic() + seconds
        try:
            self._marks = self._look()
            self._certificate = self._read(0)
        except CertificateError as error:
            raise ConfigError(str(error)) from error

    def current(self) -> Certificate:
        """The certificate for a handshake that begins now."""
        if self._turn.acquire(blocking=False):
            try:
                if time.monotonic() >= self._next_look:
                    self._follow()
                    self._next_look = time.monotonic() + self._seconds
            finally:
                self._turn.release()
        return self._certificate

    def _follow(self) -> None:
        """Take what is in the files now. What cannot be is tried again at every look, and said once."""
        try:
            marks = self._look()
            if marks != self._marks:
                certificate = self._read(self._certificate.number + 1)
                if self._look() != marks:  # they are being replaced; the next look finds all of them
                    return
                self._certificate, self._marks = certificate, marks
                _logger.info("took the certificate in %s, which ends at %s", self._cert, _day(certificate.expiry))
        except CertificateError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self.failures += 1
                _logger.error("%s; the certificate of before stays", error)
        else:
            self._problem = ""

    def _files(self) -> list[tuple[str, str]]:
        files = [("--tls-cert", self._cert), ("--tls-key", self._key)]
        return [*files, ("--tls-client-ca", self._client_ca)] if self._client_ca else files

    def _look(self) -> list[tuple[int, int, int, int]]:
        """What tells whether a file, or one that took its place, is as it was."""
        marks = []
        for option, path in self._files():
            try:
                found = Path(path).stat()
            except OSError as error:
                _refuse(option, path, error.strerror or str(error), error)
            marks.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
        return marks

    def _read(self, number: int) -> Certificate:
        contents = []
        for option, path in self._files():
            try:
                contents.append(Path(path).read_bytes())
            except OSError as error:
                _refuse(option, path, error.strerror or str(error), error)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        client = _client()
        _trust("--tls-cert", self._cert, client)
        self._load(context)
        expiry = self._expiry(context, client)
        if self._client_ca:
            _trust("--tls-client-ca", self._client_ca, context)
            context.verify_mode = ssl.CERT_REQUIRED
        return Certificate(number, contents[0], contents[1], contents[2] if self._client_ca else None, expiry, context)

    def _load(self, context: ssl.SSLContext) -> None:
        def refuse_to_guess() -> NoReturn:
            raise CertificateError(f"--tls-key {self._key}: the key is encrypted, and nobody is there to be asked")

        try:
            context.load_cert_chain(self._cert, self._key, refuse_to_guess)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                _refuse("--tls-key", self._key, f"is not the key of the certificate in {self._cert}", error)
            if error.reason is None or error.reason in _UNREADABLE:
                _refuse("--tls-key", self._key, "holds no private key in PEM that can be read", error)
            _refuse("--tls-cert", self._cert, f"cannot be used: {_words(error)}", error)
        except OSError as error:
            _refuse("--tls-key", self._key, error.strerror or str(error), error)

    def _expiry(self, context: ssl.SSLContext, trusting: ssl.SSLContext) -> float:
        """When the certificate ends, found by a client that trusts it: Python's ssl reads those of peers alone."""
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        client, server = trusting.wrap_bio(ours, theirs), context.wrap_bio(theirs, ours, server_side=True)
        try:
            for side in (client, server) * _FLIGHTS:
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        except ssl.SSLCertVerificationError as error:
            _refuse("--tls-cert", self._cert, f"cannot be a server's: {error.verify_message}", error)
        except ssl.SSLError as error:
            _refuse("--tls-cert", self._cert, f"cannot be used: {_words(error)}", error)
        return float(ssl.cert_time_to_seconds(str((client.getpeercert() or {})["notAfter"])))


def open_certificates(cert: str, key: str, client_ca: str) -> Certificates | None:
    """The certificates in these files; None where no file is named.

    Raises:
        ConfigError: they cannot be taken.
    """
    return Certificates(cert, key, client_ca) if cert else None


def _client() -> ssl.SSLContext:
    """For a client that asks of a certificate only that it is trusted itself, and a server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    return context


def _trust(option: str, path: str, context: ssl.SSLContext) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        _refuse(option, path, "holds no certificate in PEM that can be read", error)
    except OSError as error:
        _refuse(option, path, error.strerror or str(error), error)


def _refuse(option: str, path: str, problem: str, error: OSError) -> NoReturn:
    raise CertificateError(f"{option} {path}: {problem}") from error


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
