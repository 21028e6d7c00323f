# SPDX-License-Identifier: BSD-3-Clause
"""The hub's side of the connection to the broker."""

from __future__ import annotations

import asyncio
import contextlib
import pwd
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asked import Fake, request, secrets_in
from gridhub.broker.client import ask
from gridhub.broker.config import Config
from gridhub.broker.connection import check_caller, receive
from gridhub.broker.protocol import Answer, Start
from gridhub.broker.requests import decide
from gridhub.contract import BROKER_IS_READY
from gridhub.grid.engine import AnswerError


class TestAsking:
    """The hub sends a request to the broker and reads the answer."""

    async def talk(
        self,
        path: Path,
        broker: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
        timeout: float = 10.0,
    ) -> Answer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await broker(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_unix_server(serve, path)
        async with server:
            return await ask(path, request(), timeout)

    async def test_the_sending_end_is_closed_and_the_answer_is_read(self, tmp_path: Path) -> None:
        seen = b""

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            seen = await reader.read()
            writer.write(Answer(ok=True, job_id=7).model_dump_json().encode())

        assert await self.talk(tmp_path / "s", broker) == Answer(ok=True, job_id=7)
        assert Start.model_validate_json(seen) == request()

    async def test_an_answer_in_pieces_is_read_whole(self, tmp_path: Path) -> None:
        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            for byte in Answer(ok=False, error="é" * 50, kind="grid").model_dump_json().encode():
                writer.write(bytes([byte]))
                await writer.drain()
                for _ in range(3):
                    await asyncio.sleep(0)  # let the hub read this byte

        assert (await self.talk(tmp_path / "s", broker)).error == "é" * 50

    @pytest.mark.parametrize("answer", [b"", b"{", b"null", b'{"ok": true, "more": 1}', b"\xff"])
    async def test_a_broker_that_dies_is_reported(self, tmp_path: Path, answer: bytes) -> None:
        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.write(answer)

        with pytest.raises(AnswerError, match="ended without an answer"):
            await self.talk(tmp_path / "s", broker)

    async def test_waiting_for_a_broker_that_hangs_times_out(self, tmp_path: Path) -> None:
        over = asyncio.Event()

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()

        with pytest.raises(TimeoutError):
            await self.talk(tmp_path / "s", broker, timeout=0.1)
        over.set()

    async def test_a_missing_broker_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            await ask(tmp_path / "s", request(), 10)

    async def test_both_ends_understand_each_other(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        home: Path,
        tmp_path: Path,
    ) -> None:
        fake("qsub", "echo 4711")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def broker() -> None:
            connection, _ = listener.accept()
            with connection:
                check_caller(connection, config.hub_user)
                answer = decide(config, receive(connection))
                connection.sendall(answer.model_dump_json().encode())

        with listener:
            answer, _ = await asyncio.gather(
                ask(tmp_path / "s", request(), 10), asyncio.to_thread(broker)
            )
        assert answer == Answer(ok=True, job_id=4711)
        assert len(secrets_in(home)) == 1


class TestReadyBroker:
    """The hub prefers a broker that already waits."""

    async def ask(self, tmp_path: Path, greeting: bytes | None) -> tuple[str, list[bytes]]:
        """Ask a broker; return which one answered, and what the waiting one received."""
        received = []

        async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting or b"")
            received.append(await reader.read())
            writer.write(Answer(ok=True, words="waiting").model_dump_json().encode())
            writer.close()

        async def started(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.write(Answer(ok=True, words="started").model_dump_json().encode())
            writer.close()

        async with contextlib.AsyncExitStack() as stack:
            if greeting is not None:
                server = await asyncio.start_unix_server(waiting, tmp_path / "s-ready.sock")
                await stack.enter_async_context(server)
            server = await asyncio.start_unix_server(started, tmp_path / "s.sock")
            await stack.enter_async_context(server)
            answer = await ask(tmp_path / "s.sock", request(), 10)
        return answer.words, received

    async def test_a_waiting_broker_gets_the_request(self, tmp_path: Path) -> None:
        answered, received = await self.ask(tmp_path, BROKER_IS_READY)
        assert answered == "waiting"
        assert Start.model_validate_json(received[0]) == request()

    async def test_a_busy_one_gets_nothing(self, tmp_path: Path) -> None:
        assert await self.ask(tmp_path, b"") == ("started", [b""])

    async def test_without_waiting_brokers_systemd_starts_one(self, tmp_path: Path) -> None:
        assert await self.ask(tmp_path, None) == ("started", [])
