# SPDX-License-Identifier: BSD-3-Clause
"""Run Grid Engine's read-only commands with a time limit, and parse the XML that they print."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import signal
import subprocess  # nosec B404
import time
from collections.abc import Iterator, Sequence
from typing import IO
from xml.etree import ElementTree

from gridhub.grid.engine import AnswerError, GridEngine, GridEngineError

#: The longest answer to read, in bytes. A list of 10,000 jobs is usually 3.4 MB long, but users can
#: make it longer, for example with long job names.
MAX_ANSWER = 128 * 2**20


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Kill the whole process group, even if its leader has ended: on Debian, qstat is a wrapper
    # script, which can end before the command that it runs.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _read(process: subprocess.Popen[bytes], pipe: IO[bytes], limit: int) -> bytes | None:
    """Read a pipe to its end; if the output is too long, kill the process and return ``None``."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await reader.read(2**18):
            size += len(chunk)
            if size > limit:
                _kill(process)
                return None
            chunks.append(chunk)
    finally:
        transport.close()
    return b"".join(chunks)


async def _exit(process: subprocess.Popen[bytes]) -> int:
    """Wait until a process has ended; return its exit status (negative if a signal ended it)."""
    pause = 0.0005
    # Polling is enough, because a process usually ends as soon as it closes its output. Do not wait
    # in a thread: a slow directory service can occupy all threads of the event loop.
    while (status := process.poll()) is None:
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
    return status


#: How Grid Engine refuses a question on standard error, even if the command then succeeds with an
#: answer that leaves things out: the account may not see them, or asks too often
#: (``gdi_request_limits``, sge_conf(5) of Gridware Cluster Scheduler).
_REFUSED = re.compile(rb'^(error: )?(denied\b|request limit ")', re.IGNORECASE | re.MULTILINE)


class _TooSlowError(GridEngineError):
    """A command gave no answer in time."""


async def run(grid: GridEngine, name: str, *arguments: str, limit: int = MAX_ANSWER) -> bytes:
    """Run a read-only Grid Engine command and return its standard output.

    :param limit: the longest output that the command may print, in bytes.
    :raises GridEngineError: when the command fails, cannot be started, exceeds ``grid.timeout``, or
        Grid Engine has refused a part of the question.
        A command that hangs is killed together with all processes that it has started.
    :raises AnswerError: when the command prints more than ``limit``; the command is then killed
        too.
    """
    began, result = time.monotonic(), "failed"
    try:
        output = await _run(grid, name, arguments, limit)
        result = "ok"
        return output
    except AnswerError:
        result = "unreadable"
        raise
    except _TooSlowError:
        result = "timeout"
        raise
    finally:
        if grid.observe:
            grid.observe(name, result, time.monotonic() - began)


async def _run(grid: GridEngine, name: str, arguments: Sequence[str], limit: int) -> bytes:
    try:
        # Do not use asyncio's subprocess: if a start is cancelled, asyncio kills only the command
        # itself and then waits for the command's children. Popen returns the process before the
        # first await, so the whole group can be killed.
        process = subprocess.Popen(  # noqa: ASYNC220  # nosec B603  # returns after exec
            [grid.command(name), *arguments],
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Grid Engine prints local times. In UTC, no hour occurs twice, and the hub's own zone
            # does not matter.
            env=grid.environment() | {"TZ": "UTC0"},
            start_new_session=True,
        )
    except OSError as error:
        raise GridEngineError(f"{name} cannot be started: {error}") from error
    assert process.stdout is not None
    assert process.stderr is not None
    finished = False
    with process.stdout, process.stderr:
        try:
            async with asyncio.timeout(grid.timeout):
                async with asyncio.TaskGroup() as reading:
                    reads = [
                        reading.create_task(_read(process, pipe, limit))
                        for pipe in (process.stdout, process.stderr)
                    ]
                status = await _exit(process)
            finished = True
        except TimeoutError as error:
            raise _TooSlowError(f"{name} gave no answer within {grid.timeout:g} s") from error
        finally:
            if not finished:
                _kill(process)
                await _exit(process)
    output, complaint = (read.result() for read in reads)
    if output is None or complaint is None:
        raise AnswerError(f"{name}: the answer has more than {limit} bytes")
    if status != 0 or _REFUSED.search(complaint):
        words = complaint.decode(errors="replace").strip() or f"exit status {status}"
        raise GridEngineError(f"{name}: {words}")
    return output


#: How many bytes of XML to give a parser at a time: about a millisecond of work.
PIECE = 32_768

#: Control characters that XML does not allow, and the table that replaces them.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r"))
_HARMLESS = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))


def xml_pieces(xml: bytes) -> Iterator[str]:
    """Yield qstat's XML in small pieces, because a parser blocks other threads during each piece.

    Grid Engine escapes markup in users' text, but not control characters or invalid UTF-8. One job
    with such text would make the answer about all jobs unreadable. So this function replaces such
    text with harmless characters.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for start in range(0, len(xml), PIECE):
        piece = decoder.decode(xml[start : start + PIECE].translate(_HARMLESS))
        yield piece.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    yield decoder.decode(b"", final=True)


def parse_tree(xml: bytes) -> ElementTree.Element:
    """Parse the XML that qstat printed.

    :raises AnswerError: when qstat did not print XML.
    """
    parser = ElementTree.XMLParser()  # noqa: S314  # nosec B314  # expat bounds entities, reads no files
    try:
        for piece in xml_pieces(xml):
            parser.feed(piece)
        return parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnswerError(f"qstat did not print XML: {error}") from error
