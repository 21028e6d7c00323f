"""Which programs hold the ports that GridHub needs; with real sockets of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.ports import (
    address_of,
    holders,
    is_in_the_way,
    listeners,
    taken_ports,
)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held


def sentences(port: int, *addresses: str, units: tuple[str, ...] = ()) -> list[str]:
    wanted = [{"port": port, "addresses": addresses, "variable": "jupyterhub_port"}]
    return list(taken_ports(wanted, units))


def test_the_program_the_address_and_the_variable_are_named(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    for address in ("127.0.0.1", "0.0.0.0"):
        [sentence] = sentences(port, address)
        assert f"port {port} of 127.0.0.1 is taken by " in sentence
        assert "(process " in sentence
        assert sentence.endswith("; stop it, or change jupyterhub_port")


def test_another_address_is_free(listener: socket.socket) -> None:
    assert sentences(listener.getsockname()[1], "192.0.2.1") == []


def test_our_own_unit_may_hold_the_port(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    inode = next(each[2] for each in listeners() if each[0] == port)
    [(_, _, unit), *_] = holders([inode])
    assert sentences(port, "0.0.0.0", units=(unit,)) == []


def test_a_port_is_free_again_when_its_program_has_ended(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    assert sentences(port, "0.0.0.0") == []


@pytest.mark.parametrize(
    ("address", "wanted", "is_taken"),
    [
        ("0.0.0.0", ["0.0.0.0"], True),
        ("0.0.0.0", ["192.0.2.1"], True),
        ("192.0.2.1", ["0.0.0.0", "[::]"], True),
        ("::", ["192.0.2.1"], True),
        ("2001:db8::1", ["[2001:db8::1]"], True),
        ("2001:db8::1", ["0.0.0.0"], False),
        ("127.0.0.1", ["192.0.2.1"], False),
        ("0.0.0.0", ["2001:db8::1"], False),
    ],
)
def test_addresses_that_cannot_be_taken_twice(
    address: str, wanted: list[str], is_taken: bool
) -> None:
    assert is_in_the_way(address, wanted) is is_taken


def test_the_kernels_form_of_an_address() -> None:
    assert address_of("0100007F") == "127.0.0.1"
    assert address_of("B80D0120000000000000000001000000") == "2001:db8::1"
