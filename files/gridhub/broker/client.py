# SPDX-License-Identifier: BSD-3-Clause
"""The hub's end of the conversation with the broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import ValidationError

from gridhub.broker.protocol import Answer, Request
from gridhub.grid.engine import AnswerError


async def ask(path: Path, request: Request, timeout: float) -> Answer:
    """Ask the broker (the hub's end).

    :param timeout: seconds for the whole conversation.
    :raises OSError: when the socket cannot be reached.
    :raises TimeoutError: when there is no answer in time; the request may still be carried out.
    :raises AnswerError: when the broker died before it answered.
    """

    async def talk() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
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
