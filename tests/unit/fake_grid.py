# SPDX-License-Identifier: BSD-3-Clause
"""A Grid Engine of shell scripts, and small helpers around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

DATA = Path(__file__).resolve().parent / "data" / "qstat"


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the condition is outside of this process
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


def listing(*jobs: tuple[int, str, str], host: str = "qmaster") -> str:
    """Make a job list of (number, owner, letters) out of jobs that were recorded."""
    root = ElementTree.fromstring((DATA / "mixed.xml").read_bytes())
    entries = {
        entry.findtext("state"): entry for entry in root.iter("job_list")
    }  # one of each kind
    parts = {"r": "", "hqw": ""}
    for number, owner, letters in jobs:
        kind = "hqw" if "w" in letters else "r"
        entry = entries[kind]
        for tag, text in (
            ("JB_job_number", number),
            ("JB_owner", owner),
            ("state", letters),
            ("queue_name", f"all.q@{host}" if kind == "r" else ""),
        ):
            found = entry.find(tag)
            assert found is not None
            found.text = str(text)
        parts[kind] += ElementTree.tostring(entry, encoding="unicode")
    return (
        "<?xml version='1.0'?>\n<job_info>\n"
        f"<queue_info>{parts['r']}</queue_info>\n<job_info>{parts['hqw']}</job_info>\n</job_info>\n"
    )


class Qstat:
    """A qstat that counts its calls, notes its arguments and prints what the test says."""

    def __init__(self, fake: Callable[[str, str], Path], folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        (self.folder / "rest").touch()
        fake(
            "qstat",
            f"cd {folder}\n"
            'echo "$@" >> calls\n'
            "n=$(($(wc -l < calls)))\n"
            'if [ -e "answer.$n" ]; then answer="answer.$n"; else answer=rest; fi\n'
            "if [ -e failing ]; then cat failing >&2; exit 1; fi\n"
            'cat "$answer"',
        )

    @property
    def calls(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "calls").read_text(encoding="utf-8").splitlines()
        return []

    def _put(self, name: str, text: str) -> None:
        new = self.folder / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.rename(self.folder / name)

    def says(self, text: str) -> None:
        """Answer so from now on."""
        self._put("rest", text)

    def says_once(self, call: int, text: str) -> None:
        """Answer the call of that number so."""
        self._put(f"answer.{call}", text)

    def holds_back(self, call: int) -> Path:
        """Hold back the answer to the call of that number until the pipe is written to."""
        pipe = self.folder / f"answer.{call}"
        os.mkfifo(pipe)
        return pipe

    def fails(self, words: str = "qmaster is down") -> None:
        self._put("failing", words)

    def recovers(self) -> None:
        (self.folder / "failing").unlink()
