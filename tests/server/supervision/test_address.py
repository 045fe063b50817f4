"""An address that is kept for workers is theirs alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from latentserve_server.errors import ConfigError
from latentserve_server.supervision.address import KeptAddress

IN_USE = "the address cannot be bound; is it in use?"


@pytest.fixture
def kept() -> Iterator[KeptAddress]:
    address = KeptAddress("--listen", "127.0.0.1:0")
    yield address
    address.close()


def listener(port: int, *, shares: bool) -> socket.socket:
    """A socket that listens there, as gRPC's do."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        made.bind(("127.0.0.1", port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def test_any_number_of_workers_listen_there(kept: KeptAddress) -> None:
    assert kept.address == f"127.0.0.1:{kept.port}"
    with listener(kept.port, shares=True), listener(kept.port, shares=True):
        socket.create_connection(("127.0.0.1", kept.port)).close()


@pytest.mark.parametrize("workers", [0, 1])
def test_no_other_server_gets_it_whether_or_not_a_worker_listens(kept: KeptAddress, workers: int) -> None:
    listeners = [listener(kept.port, shares=True) for _ in range(workers)]
    with pytest.raises(ConfigError, match=f"--listen {kept.address}: {IN_USE.replace('?', '.')}"):
        KeptAddress("--listen", kept.address)
    with pytest.raises(OSError, match="in use"):
        listener(kept.port, shares=False)
    for each in listeners:
        each.close()


@pytest.mark.parametrize("shares", [False, True])
def test_an_address_where_somebody_listens_is_refused(shares: bool) -> None:
    with listener(0, shares=shares) as taken:
        with pytest.raises(ConfigError, match="is it in use"):
            KeptAddress("--listen", f"127.0.0.1:{taken.getsockname()[1]}")


def test_the_connections_of_a_server_that_has_ended_are_in_nobodys_way() -> None:
    with listener(0, shares=False) as before:
        port = before.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = before.accept()
            accepted.close()  # first, so that it is the server's side that waits for stray packets
    address = KeptAddress("--listen", f"127.0.0.1:{port}")
    with listener(port, shares=True) as after:
        address.close()
        assert (address.port, after.getsockname()[1]) == (port, port)


@pytest.mark.parametrize("address", ["192.0.2.1:80", "no-such-host.invalid:80"])
def test_an_address_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=f"--listen {address}: the address cannot be bound"):
        KeptAddress("--listen", address)


def test_a_name_of_several_addresses_has_one_port_at_all_of_them() -> None:
    address = KeptAddress("--listen", "localhost:0")
    with listener(address.port, shares=True), pytest.raises(ConfigError):
        KeptAddress("--listen", address.address)
    address.close()


def test_all_addresses_of_this_machine_are_kept_by_one() -> None:
    address = KeptAddress("--listen", "[::]:0")
    assert address.address == f"[::]:{address.port}"
    with pytest.raises(ConfigError):
        KeptAddress("--listen", f"127.0.0.1:{address.port}")
    address.close()
