"""Certificates that tests make, and the folders in which servers find them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
LOCAL = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes
    expiry: float

    def write(self, folder: Path) -> Issued:
        """Write them as tls.crt and tls.key, as Kubernetes names them."""
        folder.mkdir(exist_ok=True)
        (folder / "tls.crt").write_bytes(self.certificate)
        (folder / "tls.key").write_bytes(self.key)
        return self


class Authority:
    """A CA."""

    def __init__(self, name: str = "Test CA") -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def pem(self) -> bytes:
        """Its own certificate."""
        certificate = self._build(self._name, self._key, timedelta(days=-1), timedelta(days=9))
        certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return certificate.sign(self._key, SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *names: str,
        common_name: str = "nobody",
        begins: timedelta = timedelta(days=-2),
        ends: timedelta = timedelta(days=5),
        purpose: x509.ObjectIdentifier | None = None,
        password: bytes | None = None,
        by_itself: bool = False,
    ) -> Issued:
        """A certificate for hosts, addresses and URIs, whose key is encrypted where there is a password.

        `by_itself` has it signed by its own key, in this CA's name.
        """
        key = self._key if by_itself else ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(self._name if by_itself else _name(common_name), key, begins, ends)
        if names:
            certificate = certificate.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        if purpose is not None:
            certificate = certificate.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        signed = certificate.sign(self._key, SHA256())
        encryption: Any = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return Issued(
            signed.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
            signed.not_valid_after_utc.timestamp(),
        )

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: timedelta, ends: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
        )


class MountedSecret:
    """A folder whose files are links into another one, which is replaced as a whole, as kubelet does it."""

    def __init__(self, root: Path, issued: Issued) -> None:
        root.mkdir()
        self._root = root
        self._count = 0
        self.put(issued)
        for name in ("tls.crt", "tls.key"):
            (root / name).symlink_to(Path("..data") / name)

    def put(self, issued: Issued) -> None:
        """Replace both files at one moment."""
        self._count += 1
        issued.write(self._root / f"..{self._count}")
        link = self._root / "..data_tmp"
        link.symlink_to(f"..{self._count}")
        link.replace(self._root / "..data")


def tls_options(folder: Path, client_ca: Path | None = None) -> dict[str, str]:
    """The server's options for the certificate in a folder."""
    options = {"tls_cert": os.fspath(folder / "tls.crt"), "tls_key": os.fspath(folder / "tls.key")}
    return options | ({"tls_client_ca": os.fspath(client_ca)} if client_ca else {})


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
