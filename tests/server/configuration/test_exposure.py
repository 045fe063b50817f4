"""Which addresses are open beyond this machine, and when that is said."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from latentserve_server.configuration.config import ServerConfig
from latentserve_server.configuration.exposure import exposed_addresses, warn_of_exposure

ANYWHERE = "0.0.0.0:50051"
TLS = {"tls_cert": "tls.crt", "tls_key": "tls.key"}


@pytest.mark.parametrize(
    ("options", "exposed"),
    [
        ({}, []),
        ({"listen": "localhost:0", "admin_listen": "[::1]:0", "metrics_listen": "127.9.9.9:1"}, []),
        ({"listen": ANYWHERE}, [f"--listen {ANYWHERE}"]),
        ({"listen": "[::]:1"}, ["--listen [::]:1"]),
        (
            {"admin_listen": ANYWHERE, "metrics_listen": "10.0.0.1:2"},
            [f"--admin-listen {ANYWHERE}", "--metrics-listen 10.0.0.1:2"],
        ),
        ({"health_listen": ANYWHERE}, []),
        ({"listen": ANYWHERE, **TLS}, []),
        ({"listen": ANYWHERE, "insecure": True}, []),
    ],
)
def test_addresses_beyond_loopback_without_tls_are_exposed(options: dict[str, Any], exposed: list[str]) -> None:
    assert exposed_addresses(ServerConfig(repository="models", **options)) == exposed


def test_the_warning_is_one_line_that_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_exposure(ServerConfig(repository="models"))
    assert caplog.records == []
    warn_of_exposure(ServerConfig(repository="models", listen=ANYWHERE, metrics_listen="[::]:1"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"open beyond this machine without TLS: --listen {ANYWHERE}, --metrics-listen [::]:1; give --tls-cert and "
        "--tls-key, or set --insecure true where a mesh, a proxy or a policy guards them"
    )
