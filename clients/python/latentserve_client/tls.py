"""What a client needs for TLS: whom it trusts, and who it is."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

import grpc

from latentserve_client.errors import RequestError

FileName: TypeAlias = str | os.PathLike[str]

_UNREADABLE = ("PEM_LIB", "NO_START_LINE", "UNSUPPORTED")
"""What OpenSSL says of a key that is none, in some of its versions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """TLS with a server. The files are read when a client is made with it, and not again.

    Raises:
        RequestError: there is a certificate without a key, or a key without a certificate.
    """

    ca: FileName | None = None
    """PEM file of the CAs whose servers are trusted; None for those that this machine trusts."""
    cert: FileName | None = None
    """PEM file of the client's certificate, and those between it and its CA, where the server asks for one."""
    key: FileName | None = None
    """PEM file of its private key, not encrypted."""
    server_name: str = ""
    """The name that the server's certificate must have; empty for the host of the address."""

    def __post_init__(self) -> None:
        if self.cert is not None and self.key is None:
            raise RequestError(f"TLS certificate {os.fspath(self.cert)}: its key must be given, too")
        if self.key is not None and self.cert is None:
            raise RequestError(f"TLS key {os.fspath(self.key)}: its certificate must be given, too")

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials for a channel.

        Raises:
            RequestError: a file cannot be read, is not what it should be, or does not fit another one.
        """
        roots = _machine_roots() if self.ca is None else _read("CA", self.ca)
        if self.ca is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.ca)
            except ssl.SSLError as error:
                _refuse("CA", self.ca, "holds no certificate in PEM that can be read", error)
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(roots)
        certificate, key = _read("certificate", self.cert), _read("key", self.key)
        _check_pair(self.cert, self.key)
        return grpc.ssl_channel_credentials(roots, key, certificate)

    def options(self) -> tuple[tuple[str, str], ...]:
        """Options of a channel."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def _machine_roots() -> bytes | None:
    """The CAs that Python's ssl trusts here; None, which stands for gRPC's own, where it knows of none."""
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None


def _read(what: str, file: FileName) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        _refuse(what, file, error.strerror or str(error), error)


def _check_pair(cert: FileName, key: FileName) -> None:
    def refuse_to_guess() -> NoReturn:
        raise RequestError(f"TLS key {os.fspath(key)}: it is encrypted; give one that is not")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cert)
    except ssl.SSLError as error:
        _refuse("certificate", cert, "holds no certificate in PEM that can be read", error)
    try:
        context.load_cert_chain(cert, key, refuse_to_guess)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            _refuse("key", key, f"is not the key of the certificate in {os.fspath(cert)}", error)
        if error.reason is None or error.reason in _UNREADABLE:
            _refuse("key", key, "holds no private key in PEM that can be read", error)
        _refuse("certificate", cert, f"cannot be used: {error.reason.replace('_', ' ').lower()}", error)


def _refuse(what: str, file: FileName, problem: str, error: OSError) -> NoReturn:
    raise RequestError(f"TLS {what} {os.fspath(file)}: {problem}") from error
