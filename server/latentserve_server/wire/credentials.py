"""A listener's credentials, whose certificate is the one that counts when a handshake begins."""

from __future__ import annotations

import grpc

from latentserve_server.certificates import Certificate, Certificates


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Credentials of one listener. gRPC speaks TLS 1.2 and 1.3 with them, and asks before each handshake.

    It does so on a thread of its own, which the event loop does not wait for.
    """
    taken = certificates.current()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal taken
        now = certificates.current()
        if now.number <= taken.number:  # another handshake, on another thread, may have been quicker
            return None
        taken = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(taken),
        newer,  # type: ignore[arg-type]  # the stubs leave None out
        require_client_authentication=taken.client_ca is not None,
    )


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificate.key, certificate.chain)], certificate.client_ca)
