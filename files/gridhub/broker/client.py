# SPDX-License-Identifier: BSD-3-Clause
"""The hub's client for the broker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from gridhub.broker.protocol import Answer, Request, Stop, job_name
from gridhub.contract import BROKER_IS_READY
from gridhub.grid.engine import AnswerError, GridEngineError
from gridhub.grid.jobs import Job

#: How long to wait for a broker that is ready, in seconds. A request usually takes a tenth of a
#: second. If all of them are busy for so long, systemd starts another one, which costs three times
#: as much processor time: on a busy host, this must not happen early.
READY_WITHIN = 3.0


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def ready_socket(path: Path) -> Path:
    """Return the socket at which brokers wait, beside the socket for which systemd starts one."""
    return path.with_stem(f"{path.stem}-ready")


async def _connect_to_ready(path: Path) -> Streams | None:
    """Connect to a broker that waits; return ``None`` if none does."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        async with asyncio.timeout(READY_WITHIN):
            reader, writer = await asyncio.open_unix_connection(str(path))
            stack.callback(writer.close)
            if await reader.read(1) == BROKER_IS_READY:
                stack.pop_all()
                return reader, writer
    return None


async def ask(path: Path, request: Request, timeout: float) -> Answer:
    """Send one request to the broker and return its answer.

    :param path: the socket for which systemd starts a broker.
    :param timeout: time limit for the whole exchange, in seconds.
    :raises OSError: when the socket cannot be reached.
    :raises TimeoutError: when no answer arrives in time; the broker may still carry out the
        request.
    :raises AnswerError: when the broker died before it answered.
    """

    async def talk() -> bytes:
        ready = await _connect_to_ready(ready_socket(path))
        reader, writer = ready or await asyncio.open_unix_connection(str(path))
        try:
            writer.write(request.model_dump_json().encode())
            writer.write_eof()
            return await reader.read()
        finally:
            writer.close()

    async with asyncio.timeout(timeout):
        data = await talk()
    try:
        return Answer.model_validate_json(data)
    except ValidationError as error:
        raise AnswerError("the submission broker ended without an answer") from error


class BrokerClient:
    """A client that limits how many requests the broker gets at the same time.

    Each request starts a process on the hub's host, and the broker's socket refuses connections
    when too many of these processes run. So when a hundred people press Start together, the
    requests beyond the limit wait in this client.

    :param timeout: time limit for one request, in seconds; the wait in this client does not count.
    :param observe: called after each request with its action, the kind of the refusal (``ok``, or
        ``no_answer``) and its duration in seconds, without the wait; the hub's metrics count them.
    """

    def __init__(
        self,
        path: Path,
        timeout: float,
        at_once: int = 16,
        observe: Callable[[str, str, float], None] | None = None,
    ) -> None:
        self.path = path
        self.timeout = timeout
        self._observe = observe
        self.line = asyncio.Semaphore(at_once)

    async def ask(self, request: Request) -> Answer:
        """Wait for the request's turn, then send it as :func:`ask` does."""
        async with self.line:
            began, kind = time.monotonic(), "no_answer"
            try:
                answer = await ask(self.path, request, self.timeout)
                kind = "ok" if answer.ok else answer.kind
                return answer
            finally:
                if self._observe:
                    self._observe(request.action, kind, time.monotonic() - began)

    async def delete(self, job: Job) -> None:
        """Delete a job that no session wants.

        :raises GridEngineError: when the broker does not delete the job.
        """
        request = Stop(user=job.owner, session=job.name.removeprefix(job_name("")))
        try:
            answer = await self.ask(request)
        except (OSError, TimeoutError) as error:
            raise GridEngineError(f"broker: {error!r}") from error
        if not answer.ok:
            raise GridEngineError(answer.error)
