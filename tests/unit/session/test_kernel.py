# SPDX-License-Identifier: BSD-3-Clause
"""The pipe through which a kernel receives the output of its child processes.

ipykernel and ZeroMQ are installed only on the workers, so these tests use stand-ins. The tests on
the cluster use the real packages.
"""

from __future__ import annotations

import ast
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gridhub.session import kernel as kernel_settings
from gridhub.session.server import MAX_FOLDER

KERNEL = "kernel-01234567-89ab-cdef-0123-456789abcdef-ipc"


class TestAddress:
    @pytest.mark.parametrize("end", [b"", b"\0"])
    def test_the_pipe_is_beside_the_kernels_other_sockets(self, end: bytes) -> None:
        kernel = f"ipc:///tmp/jhub-12345678/{KERNEL}-2".encode() + end
        assert kernel_settings.pipe_address(kernel) == f"ipc:///tmp/jhub-12345678/{KERNEL}-p"

    def test_folders_may_have_any_name(self) -> None:
        assert kernel_settings.pipe_address("ipc:///tmp/é-1/k-2".encode()) == "ipc:///tmp/é-1/k-p"

    @pytest.mark.parametrize("kernel", [b"tcp://127.0.0.1:40123", b"", b"inproc://x"])
    def test_a_kernel_on_tcp_keeps_its_pipe(self, kernel: bytes) -> None:
        assert kernel_settings.pipe_address(kernel) is None

    def test_the_longest_folder_is_short_enough(self) -> None:
        folder = "/".ljust(MAX_FOLDER, "x")
        address = kernel_settings.pipe_address(f"ipc://{folder}/{KERNEL}-2".encode())
        assert address is not None
        assert len(address.removeprefix("ipc://")) <= 107


class ZMQError(Exception):
    """Raised when an address cannot be bound."""


class Socket:
    def __init__(self, address: bytes = b"", refuses: bool = False) -> None:
        self.address = address
        self.context = SimpleNamespace(socket=lambda kind: Socket(kind, refuses))
        self.refuses = refuses
        self.used: list[tuple[str, str]] = []
        self.closed = False

    def getsockopt(self, option: str) -> bytes:
        assert option == "LAST_ENDPOINT"
        return self.address

    def bind(self, address: str) -> None:
        if self.refuses:
            raise ZMQError("Permission denied")
        self.used.append(("bind", address))

    def connect(self, address: str) -> None:
        self.used.append(("connect", address))

    def close(self) -> None:
        self.closed = True


class Stream:
    def __init__(self, socket: Socket, loop: str) -> None:
        assert loop == "loop"
        self.socket = socket

    def on_recv(self, receive: Any) -> None:
        self.receive = receive


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for ipykernel's output thread, with only the parts that use the pipe."""

    class IOPubThread:
        _pipe_flag = True
        io_loop = "loop"

        def __init__(self, address: bytes, refuses: bool = False) -> None:
            self.socket = Socket(address, refuses)
            self.own: list[str] = []
            self._setup_pipe_in()

        def _setup_pipe_in(self) -> None:
            self.own.append("in")

        def _setup_pipe_out(self) -> tuple[str, str]:
            self.own.append("out")
            return "context", "pipe"

        def _handle_pipe_msg(self) -> None:
            pass

    modules = {
        "zmq": {
            "PULL": b"PULL",
            "PUSH": b"PUSH",
            "LAST_ENDPOINT": "LAST_ENDPOINT",
            "ZMQError": ZMQError,
            "Context": lambda: SimpleNamespace(socket=Socket),
        },
        "zmq.eventloop": {},
        "zmq.eventloop.zmqstream": {"ZMQStream": Stream},
        "ipykernel": {},
        "ipykernel.iostream": {"IOPubThread": IOPubThread},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return IOPubThread


IPC, TCP = b"ipc:///run/kernel-ipc-2\0", b"tcp://127.0.0.1:40123"


class TestPipe:
    def test_a_kernel_on_sockets_uses_a_socket_as_its_pipe(self, thread: Any) -> None:
        kernel_settings.use_private_pipes()
        kernel = thread(IPC)
        pipe = kernel._pipe_in
        assert (pipe.socket.address, pipe.receive) == (b"PULL", kernel._handle_pipe_msg)
        assert pipe.socket.used == [("bind", "ipc:///run/kernel-ipc-p")]
        assert len(kernel._pipe_uuid) == 16
        _, out = kernel._setup_pipe_out()
        assert (out.address, out.used) == (b"PUSH", [("connect", "ipc:///run/kernel-ipc-p")])
        assert kernel.own == []

    def test_a_kernel_on_tcp_uses_ipykernels_own_pipe(self, thread: Any) -> None:
        kernel_settings.use_private_pipes()
        kernel = thread(TCP)
        assert kernel._setup_pipe_out() == ("context", "pipe")
        assert kernel.own == ["in", "out"]

    def test_a_kernel_that_cannot_bind_its_socket_opens_no_port(self, thread: Any) -> None:
        kernel_settings.use_private_pipes()
        with pytest.warns(UserWarning, match="not shown: Permission denied"):
            kernel = thread(IPC, refuses=True)
        assert kernel.own == []
        assert not kernel._pipe_flag

    def test_a_kernel_may_load_the_file_from_two_places(self, thread: Any) -> None:
        kernel_settings.use_private_pipes()
        once = dict(vars(thread))
        kernel_settings.use_private_pipes()
        assert dict(vars(thread)) == once

    def test_a_version_without_a_pipe_is_left_alone(self, thread: Any) -> None:
        del thread._setup_pipe_out
        before = dict(vars(thread))
        kernel_settings.use_private_pipes()
        assert dict(vars(thread)) == before


class TestFile:
    @pytest.mark.parametrize("as_configuration", [True, False])
    def test_the_file_acts_only_if_ipython_loads_it(
        self, thread: Any, as_configuration: bool
    ) -> None:
        names = {"get_config": dict} if as_configuration else {}
        runpy.run_path(os.fspath(kernel_settings.__file__), names)
        assert (thread(IPC).own == []) is as_configuration

    def test_the_file_can_be_parsed_by_any_python(self) -> None:
        """The file uses only syntax that Python 2.7 knows."""
        text = Path(kernel_settings.__file__).read_text("ascii")
        for node in ast.walk(ast.parse(text)):
            assert not isinstance(
                node, ast.JoinedStr | ast.NamedExpr | ast.AnnAssign | ast.AsyncFunctionDef
            )
            if isinstance(node, ast.FunctionDef):
                arguments = node.args
                assert not (arguments.kwonlyargs or arguments.posonlyargs or node.returns)
                assert not any(each.annotation for each in arguments.args)
            if isinstance(node, ast.Raise):
                assert node.cause is None
