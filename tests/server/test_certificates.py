"""The server's certificate in files: what is taken, what is refused, and what becomes of files that are replaced."""

from __future__ import annotations

import logging
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from certificates import CLIENT, LOCAL, Authority, MountedSecret, tls_options

from latentserve_server.certificates import Certificates
from latentserve_server.errors import ConfigError


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def certificates_in(folder: Path, client_ca: str = "") -> Certificates:
    """Looked at whenever they are asked for."""
    return Certificates(str(folder / "tls.crt"), str(folder / "tls.key"), client_ca, seconds=0)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_a_certificate_is_taken_with_its_end(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(*LOCAL).write(tmp_path)
    taken = certificates_in(tmp_path).current()
    assert (taken.chain, taken.key, taken.client_ca) == (issued.certificate, issued.key, None)
    assert taken.expiry == issued.expiry
    assert taken.context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(("begins", "ends"), [(-9, -2), (3, 9)], ids=["expired", "not yet valid"])
def test_a_certificate_whose_time_it_is_not_is_taken(
    authority: Authority, tmp_path: Path, begins: int, ends: int
) -> None:
    issued = authority.issue(*LOCAL, begins=timedelta(days=begins), ends=timedelta(days=ends)).write(tmp_path)
    assert certificates_in(tmp_path).current().expiry == issued.expiry


def damage(folder: Path, authority: Authority, what: str) -> None:
    other = authority.issue(*LOCAL)
    match what:
        case "no certificate file":
            (folder / "tls.crt").unlink()
        case "no key file":
            (folder / "tls.key").unlink()
        case "a folder":
            (folder / "tls.key").unlink()
            (folder / "tls.key").mkdir()
        case "a key in the certificate's place":
            (folder / "tls.crt").write_bytes(other.key)
        case "half a certificate":
            (folder / "tls.crt").write_bytes(other.certificate[:200])
        case "a certificate in the key's place":
            (folder / "tls.key").write_bytes(other.certificate)
        case "an empty key":
            (folder / "tls.key").write_bytes(b"")
        case "another key":
            (folder / "tls.key").write_bytes(other.key)
        case "an encrypted key":
            authority.issue(*LOCAL, password=b"secret").write(folder)
        case "a client's certificate":
            authority.issue(*LOCAL, purpose=CLIENT).write(folder)


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("no certificate file", "--tls-cert {cert}: No such file or directory"),
        ("no key file", "--tls-key {key}: No such file or directory"),
        ("a folder", "--tls-key {key}: Is a directory"),
        ("a key in the certificate's place", "--tls-cert {cert}: holds no certificate in PEM that can be read"),
        ("half a certificate", "--tls-cert {cert}: holds no certificate in PEM that can be read"),
        ("a certificate in the key's place", "--tls-key {key}: holds no private key in PEM that can be read"),
        ("an empty key", "--tls-key {key}: holds no private key in PEM that can be read"),
        ("another key", "--tls-key {key}: is not the key of the certificate in {cert}"),
        ("an encrypted key", "--tls-key {key}: the key is encrypted, and nobody is there to be asked"),
        ("a client's certificate", "--tls-cert {cert}: cannot be a server's: unsuitable certificate purpose"),
    ],
)
def test_what_is_wrong_is_said_at_the_start_and_later_keeps_the_certificate_of_before(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, problem: str
) -> None:
    issued = authority.issue(*LOCAL).write(tmp_path)
    certificates = certificates_in(tmp_path)
    damage(tmp_path, authority, what)
    said = problem.format(cert=tmp_path / "tls.crt", key=tmp_path / "tls.key")

    with pytest.raises(ConfigError) as caught:
        certificates_in(tmp_path)
    assert str(caught.value) == said

    for _ in range(3):
        assert certificates.current().chain == issued.certificate
    assert errors(caplog) == [f"{said}; the certificate of before stays"]
    assert certificates.failures == 1


def test_a_folder_that_is_replaced_is_taken_at_once(authority: Authority, tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path / "tls", authority.issue(*LOCAL))
    certificates = certificates_in(tmp_path / "tls")
    before = certificates.current()
    assert certificates.current() is before
    issued = authority.issue(*LOCAL)
    secret.put(issued)
    after = certificates.current()
    assert (after.chain, after.key, after.number) == (issued.certificate, issued.key, 1)
    assert certificates.failures == 0


def test_a_pair_that_is_replaced_file_by_file_is_taken_once_it_is_whole(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = authority.issue(*LOCAL).write(tmp_path), authority.issue(*LOCAL)
    certificates = certificates_in(tmp_path)
    for _ in range(2):
        (tmp_path / "tls.crt").write_bytes(second.certificate)
        assert certificates.current().chain == first.certificate
        (tmp_path / "tls.key").write_bytes(second.key)
        assert certificates.current().chain == second.certificate
        first, second = second, authority.issue(*LOCAL)
    assert certificates.failures == 2
    assert len(errors(caplog)) == 2


def test_the_client_ca_is_followed_too(authority: Authority, tmp_path: Path) -> None:
    authority.issue(*LOCAL).write(tmp_path)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.pem)
    certificates = certificates_in(tmp_path, str(ca))
    assert certificates.current().context.verify_mode is ssl.CERT_REQUIRED
    ca.write_bytes(both := authority.pem + Authority().pem)
    assert certificates.current().client_ca == both
    ca.write_bytes(b"nothing")
    assert certificates.current().client_ca == both
    with pytest.raises(ConfigError, match=r"--tls-client-ca .*ca.crt: holds no certificate"):
        certificates_in(tmp_path, str(ca))


def test_files_are_looked_at_now_and_then(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(*LOCAL).write(tmp_path)
    options = tls_options(tmp_path)
    certificates = Certificates(options["tls_cert"], options["tls_key"], seconds=3600)
    authority.issue(*LOCAL).write(tmp_path)
    assert certificates.current().chain == issued.certificate
