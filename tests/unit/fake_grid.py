# SPDX-License-Identifier: BSD-3-Clause
"""A fake Grid Engine made of shell scripts, and small helpers for it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from folders import QSTAT
from gridhub.grid.jobs import Job

#: Start time, in seconds since the epoch, of the job that :func:`listing` copies from
#: ``mixed.xml``.
SINCE = datetime.fromisoformat("2026-11-23T16:46:40+00:00").timestamp()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until the condition is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the condition is outside of this process
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


def job(
    name: str = "jupyterhub-a",
    letters: str = "r",
    *,
    number: int = 1,
    owner: str = "alice",
    host: str = "exec1",
    reports: bool = True,
) -> Job:
    """Make a job. If the job waits, ``host`` is ignored."""
    waits = "w" in letters or "q" in letters
    since = None if waits else SINCE
    return Job(number, name, owner, letters, "" if waits else host, 1, reports, since)


class Like(NamedTuple):
    """The recorded answers of a Grid Engine from which the fake one makes its own."""

    jobs: Path = QSTAT / "mixed.xml"
    details: Path = QSTAT / "details.xml"
    unknown: Path = QSTAT / "job_unknown.xml"


SGE = Like()


def listing(*jobs: Job, like: Like = SGE) -> str:
    """Make a job list from a recorded list, with one queue instance for each host."""
    root = ElementTree.fromstring(like.jobs.read_bytes())
    queues, waiting = root.find("queue_info"), root.find("job_info")
    assert queues is not None
    assert waiting is not None
    instance, waits = queues.find("Queue-List"), waiting.find("job_list")
    assert instance is not None
    assert waits is not None
    runs = instance.find("job_list")
    assert runs is not None
    for entry in instance.findall("job_list"):
        instance.remove(entry)
    for parent in (queues, waiting):
        for child in list(parent):
            parent.remove(child)
    instances: dict[tuple[str, bool], ElementTree.Element] = {}
    for one in jobs:
        entry = copy.deepcopy(runs if one.host else waits)
        for tag, value in (
            ("JB_job_number", one.id),
            ("JB_name", one.name),
            ("JB_owner", one.owner),
            ("state", one.letters),
            ("slots", one.slots),
        ):
            entry.find(tag).text = str(value)  # type: ignore[union-attr]
        if not one.host:
            waiting.append(entry)
            continue
        key = one.host, one.reports
        if key not in instances:
            instances[key] = copy.deepcopy(instance)
            instances[key].find("name").text = f"all.q@{one.host}"  # type: ignore[union-attr]
            if not one.reports:
                ElementTree.SubElement(instances[key], "state").text = "au"
            queues.append(instances[key])
        instances[key].append(entry)
    return ElementTree.tostring(root, encoding="unicode")


def details(
    number: int = 1,
    owner: str = "alice",
    *,
    reasons: Iterable[str] = (),
    errors: Iterable[str] = (),
    usage: Mapping[str, float] | None = None,
    like: Like = SGE,
) -> str:
    """Make the details of one job from recorded details."""
    root = ElementTree.fromstring(like.details.read_bytes())
    jobs, messages = root.find("djob_info"), root.find("messages/element")
    assert jobs is not None
    assert messages is not None
    for other in jobs[1:]:
        jobs.remove(other)
    entry = jobs[0]
    entry.find("JB_job_number").text = str(number)  # type: ignore[union-attr]
    entry.find("JB_owner").text = owner  # type: ignore[union-attr]
    (tasks,) = entry.iterfind("JB_ja_tasks")
    (task,) = tasks
    (used,) = task.iterfind("JAT_scaled_usage_list")
    if usage is None:
        task.remove(used)
    for value in used:
        name = value.findtext("UA_name", "")
        value.find("UA_value").text = f"{(usage or {}).get(name, 0):f}"  # type: ignore[union-attr]
    listed = ElementTree.SubElement(task, "JAT_message_list")
    for error in errors:
        item = ElementTree.SubElement(listed, "ulong_sublist")
        ElementTree.SubElement(item, "QIM_message").text = error
    messages.clear()
    listed = ElementTree.SubElement(messages, "SME_global_message_list")
    for reason in reasons:
        item = ElementTree.SubElement(listed, "element")
        ElementTree.SubElement(item, "MES_message").text = reason
    return ElementTree.tostring(root, encoding="unicode")


class Qstat:
    """A fake qstat that records its calls and prints what the test sets."""

    def __init__(self, fake: Callable[[str, str], Path], folder: Path, like: Like = SGE) -> None:
        self.folder = folder
        self.like = like
        self.folder.mkdir()
        (self.folder / "rest").touch()
        fake(
            "qstat",
            f"cd {folder}\n"
            # A question about a job alone; the names of real jobs are never numbers.
            'case "$2 $3" in "-j "*[!0-9,]*)\n'
            'echo "$3" >> alone; if [ -e failing ]; then cat failing >&2; exit 1; fi\n'
            f'cat "hidden.$3" 2>/dev/null || cat {like.unknown}; exit;;\n'
            "esac\n"
            # Answers about free places, and about all waiting jobs, only if the test sets them.
            'case "$1 $2" in "-f -F") [ ! -e places ] || { cat places; exit; };;\n'
            '"-xml -s") [ ! -e line ] || { cat line; exit; };; esac\n'
            'echo "$@" >> calls\n'
            "n=$(($(wc -l < calls)))\n"
            'if [ "$2" = -j ]; then cat reason; exit; fi\n'
            # Like the real qstat, fail if the owner is missing.
            f'[ -n "$7" ] || {{ cat {QSTAT}/no_owner.err.txt >&2; exit 1; }}\n'
            'if [ -e "answer.$n" ]; then answer="answer.$n"; else answer=rest; fi\n'
            "if [ -e failing ]; then cat failing >&2; exit 1; fi\n"
            'cat "$answer"',
        )

    @property
    def calls(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "calls").read_text(encoding="utf-8").splitlines()
        return []

    @property
    def questions(self) -> list[str]:
        """Return the owners that each query for a job list names."""
        return [call.rpartition(" ")[2] for call in self.calls if not call.startswith("-xml -j")]

    @property
    def asked_alone(self) -> list[str]:
        """Return the names of the jobs about which there was a question alone."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "alone").read_text(encoding="utf-8").splitlines()
        return []

    def hides(self, name: str, owner: str = "alice") -> None:
        """Know a job of this name, although no list may have it."""
        self._put(f"hidden.{name}", details(owner=owner, like=self.like))

    def ends(self, name: str) -> None:
        """Do not know the job any more."""
        (self.folder / f"hidden.{name}").unlink()

    def explains(self, reason: str) -> None:
        """Answer `qstat -xml -j` with this text."""
        self._put("reason", reason)

    def offers(self, places: str, line: str) -> None:
        """Answer queries for free places and for all waiting jobs with these texts."""
        self._put("places", places)
        self._put("line", line)

    def _put(self, name: str, text: str) -> None:
        new = self.folder / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.rename(self.folder / name)

    def says(self, text: str) -> None:
        """From now on, answer queries for a job list with this text."""
        self._put("rest", text)

    def says_once(self, call: int, text: str) -> None:
        """Use this text as the answer to the call with this number."""
        self._put(f"answer.{call}", text)

    def holds_back(self, call: int) -> Path:
        """Hold back the answer to this call until the test writes to the returned pipe."""
        pipe = self.folder / f"answer.{call}"
        os.mkfifo(pipe)
        return pipe

    def fails(self, words: str = "qmaster is down") -> None:
        self._put("failing", words)

    def recovers(self) -> None:
        (self.folder / "failing").unlink()
