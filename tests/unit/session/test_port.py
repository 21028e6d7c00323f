# SPDX-License-Identifier: BSD-3-Clause
"""How a session finds a free port, and what it reports if every port is taken."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridhub.contract import (
    MAX_REASON,
    NO_PORT,
)
from gridhub.session.port import bind_port, no_port_reason, port_holders
from gridhub.session.secrets import SessionError
from started import take


@pytest.fixture
def two_ports() -> Iterator[list[socket.socket]]:
    """Two adjacent ports, both taken."""
    for _ in range(100):
        first = take()
        try:
            second = take(first.getsockname()[1] + 1)
        except OSError:
            first.close()
            continue
        with first, second:
            yield [first, second]
        return
    pytest.fail("no two neighbouring ports are free")


class TestPort:
    def test_the_port_is_in_the_range_including_both_ends(
        self, two_ports: list[socket.socket]
    ) -> None:
        first, last = (taken.getsockname()[1] for taken in two_ports)
        for taken in two_ports:
            taken.close()
        with bind_port(first, last) as one, bind_port(first, last) as two:
            assert {one.getsockname()[1], two.getsockname()[1]} == {first, last}
            with pytest.raises(SessionError, match=f"from {first} to {last} is taken"):
                bind_port(first, last)

    def test_a_taken_port_is_skipped(self, two_ports: list[socket.socket]) -> None:
        first, last = (taken.getsockname()[1] for taken in two_ports)
        two_ports[1].close()
        for _ in range(10):
            with bind_port(first, last) as server:
                assert server.getsockname()[1] == last

    @pytest.mark.parametrize("option", [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
    @pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::", "::1"])
    def test_no_other_program_can_take_the_port(self, option: int, address: str) -> None:
        if ":" in address and not socket.has_dualstack_ipv6():
            pytest.skip("this machine has no IPv6")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with take() as probe:
            port = probe.getsockname()[1]
        with bind_port(port, port), socket.socket(family) as other:
            if family == socket.AF_INET6:
                other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if option:
                other.setsockopt(socket.SOL_SOCKET, option, 1)
            with pytest.raises(OSError, match="Address already in use"):
                other.bind((address, port))
                other.listen()

    def test_the_port_accepts_connections_before_the_server_is_up(self) -> None:
        with take() as probe:
            port = probe.getsockname()[1]
        with bind_port(port, port) as server:
            assert not server.getblocking()
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass


#: Two accounts each listen on one port. The next lines are a connected port, the last port of the
#: range, a port outside the range, and a closed port without an owner. ``TCP6`` lists the first
#: port again.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4711        0 1 1 0
   1: 0100007F:9C41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4712        0 2 1 0
   2: 0100007F:9C42 0100007F:0016 01 00000000:00000000 00:00000000 00000000  4712        0 3 1 0
   3: 0100007F:A027 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4712        0 4 1 0
   4: 0100007F:A028 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4711        0 5 1 0
   5: 0100007F:9C43 0100007F:0016 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
"""


TCP6 = f"""\
  sl  local_address                         remote_address                        st tx_queue
   0: {"0" * 32}:9C40 {"0" * 32}:0000 0A 0:0 00:0 00000000  4711        0 1 1 0
   1: {"0" * 32}:9C44 {"0" * 32}:0000 0A 0:0 00:0 00000000  4713        0 1 1 0
"""


class TestHolders:
    def test_ports_are_counted_by_account(self, tmp_path: Path) -> None:
        (tmp_path / "tcp").write_text(TCP, encoding="ascii")
        (tmp_path / "tcp6").write_text(TCP6, encoding="ascii")
        tables = [tmp_path / each for each in ("tcp", "tcp6", "no such table")]
        found = port_holders(40000, 40999, tables)
        assert found[0] == ("4712", 3)
        assert sorted(found[1:]) == [("4711", 1), ("4713", 1)]

    def test_the_kernels_own_tables_are_read(self) -> None:
        with take() as taken:
            taken.listen()
            port = taken.getsockname()[1]
            assert port_holders(port, port) == [(pwd.getpwuid(os.getuid()).pw_name, 1)]
        assert port_holders(port, port) == []

    def test_the_reason_is_short_even_with_long_account_names(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.session.port.account_name", lambda uid: "x" * 64)
        with take() as taken:
            taken.listen()
            reason = no_port_reason(1, 65535)
        assert reason.startswith(NO_PORT) and len(reason) < MAX_REASON
