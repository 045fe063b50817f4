"""What gRPC says of a connection that did not come about, as far as TLS is the cause, in plain words."""

from __future__ import annotations

import re

_CLOSED = re.compile(r"Socket closed|Handshake read failed|Connection reset by peer|Broken pipe")

_CAUSES = (
    (
        r"CERTIFICATE_VERIFY_FAILED: certificate has expired",
        "the certificate of {server} has expired; it must be renewed",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED: certificate is not yet valid",
        "the certificate of {server} is not valid yet; are the clocks right?",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED: (unable to get (local )?issuer|self[- ]signed certificate)",
        "the certificate of {server} is of no CA that this client trusts; name the CA that issued it",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED: unsupported certificate purpose",
        "the certificate of {server} is not one for servers",
    ),
    (r"CERTIFICATE_VERIFY_FAILED", "the certificate of {server} cannot be trusted"),
    (
        r"Hostname Verification Check failed|is not in peer certificate",
        "the certificate of {server} is for other names; use an address with one of them, or give the server's name",
    ),
    (r"WRONG_VERSION_NUMBER|HTTP_REQUEST", "{server} speaks no TLS; call it without"),
    (r"UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION", "{server} speaks no version of TLS that gRPC takes, 1.2 or 1.3"),
)
"""What the core and BoringSSL say, in the order in which it is looked for, and what it means."""


_REFUSALS = {
    None: "it may want another certificate of this client, or one at all",
    False: "it may ask its clients for a certificate, and this one was given none",
    True: "it may not take this client's certificate",
}
"""Why a server may end a handshake, by whether it was shown a certificate. It tells its own log, and not the client."""


def explain_handshake(details: str, server: str, *, secure: bool, shown: bool | None) -> str | None:
    """The cause that the details of a failed call tell of, and what to do; None where TLS has nothing to do with it.

    `secure` says whether the client speaks TLS with the server, and `shown` whether it has a certificate of its own to
    show; None where that is not known.
    """
    for pattern, meaning in _CAUSES:
        if re.search(pattern, details):
            return meaning.format(server=server)
    never_connected = details.startswith(("failed to connect", "connections to all backends failing"))
    if not (never_connected and _CLOSED.search(details)):
        return None
    if secure:
        return f"{server} closed the connection during the handshake; {_REFUSALS[shown]}: its log says why"
    return f"{server} closed the connection at once; does it speak TLS?"
