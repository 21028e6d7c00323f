# SPDX-License-Identifier: BSD-3-Clause
"""Run Grid Engine's read-only commands with a time limit, and parse the XML they print."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections.abc import Iterator
from xml.etree import ElementTree

from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError

#: Longest answer to read, in bytes. Users can add text to answers, for example in job names; a list
#: of 10,000 jobs has 3.4 MB.
MAX_ANSWER = 128 * 2**20


def _kill(process: asyncio.subprocess.Process) -> None:
    # Kill the group, even if its leader has ended: on Debian, qstat is a wrapper script.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _read(
    process: asyncio.subprocess.Process, stream: asyncio.StreamReader | None, limit: int
) -> bytes | None:
    """Read a process's stream to its end; if it is too long, kill the process and return ``None``.

    The rest is read as well: unread data in a pipe would keep ``process.wait()`` from returning
    (asyncio).
    """
    assert stream is not None
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read(2**18):
        if size <= limit < size + len(chunk):
            chunks.clear()
            _kill(process)
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    return b"".join(chunks) if size <= limit else None


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process and its children, and wait until they have ended."""
    _kill(process)
    await asyncio.gather(
        _read(process, process.stdout, MAX_ANSWER), _read(process, process.stderr, MAX_ANSWER)
    )
    await process.wait()


async def run(grid: GridEngine, name: str, *arguments: str, limit: int = MAX_ANSWER) -> bytes:
    """Run a read-only Grid Engine command and return its standard output.

    :param limit: the longest output it may print, in bytes.
    :raises GridEngineError: when it fails, cannot be started, or exceeds ``grid.timeout``. A
        command that hangs is killed with everything it started.
    :raises AnswerError: when it prints more than ``limit``; it is then killed too.
    """
    start = asyncio.create_task(
        asyncio.create_subprocess_exec(
            grid.command(name),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=grid.environment(),
            start_new_session=True,
        )
    )
    try:
        # Cancelled here, asyncio kills the command alone, and waits for the children it has left.
        process = await asyncio.shield(start)
    except OSError as error:
        raise GridEngineError(f"{name} cannot be started: {error}") from error
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await start)
        raise
    finished = False
    try:
        async with asyncio.timeout(grid.timeout):
            output, complaint = await asyncio.gather(
                _read(process, process.stdout, limit), _read(process, process.stderr, limit)
            )
            await process.wait()
        finished = True
    except TimeoutError as error:
        raise GridEngineError(f"{name} gave no answer within {grid.timeout:g} s") from error
    finally:
        if not finished:
            await _end(process)
    if output is None or complaint is None:
        raise AnswerError(f"{name}: the answer has more than {limit} bytes")
    if process.returncode != 0:
        words = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
        raise GridEngineError(f"{name}: {words}")
    return output


#: How much XML to give a parser at a time, in bytes: about a millisecond of work.
_PIECE = 32_768

#: Control characters that XML does not allow, and the table that replaces them.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r"))
_HARMLESS = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))


def xml_pieces(xml: bytes) -> Iterator[str]:
    """Yield XML that qstat printed in small pieces, because a parser blocks other threads.

    Grid Engine escapes markup in users' text, but prints control characters and bytes that are not
    UTF-8 unchanged. One such job would make the answer about all jobs unreadable, so each of these
    is replaced by a single character that cannot become markup.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for start in range(0, len(xml), _PIECE):
        piece = decoder.decode(xml[start : start + _PIECE].translate(_HARMLESS))
        yield piece.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    yield decoder.decode(b"", final=True)


def parse_tree(xml: bytes) -> ElementTree.Element:
    """Parse the XML that qstat printed.

    :raises AnswerError: when it is not XML.
    """
    parser = ElementTree.XMLParser()  # noqa: S314  # nosec B314  # expat bounds entities, reads no files
    try:
        for piece in xml_pieces(xml):
            parser.feed(piece)
        return parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnswerError(f"qstat did not print XML: {error}") from error
