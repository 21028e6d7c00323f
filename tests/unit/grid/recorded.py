# SPDX-License-Identifier: BSD-3-Clause
"""Recorded outputs of Grid Engine."""

from __future__ import annotations

from collections.abc import Callable

from gridhub.grid.details import Details, parse_details

GB = 2.0**30


Recorded = Callable[[str], str]


def read(recorded: Recorded, name: str) -> dict[int, Details]:
    return parse_details(recorded(name).encode())


def element(tag: str, text: str) -> str:
    return f"<{tag}>{text}</{tag}>"


def answer(*jobs: str, messages: str = "") -> bytes:
    """Return qstat's answer about jobs; each job is given as the text of its XML elements."""
    entries = "".join(element("element", job) for job in jobs)
    info = element("djob_info", entries)
    return element("detailed_job_info", info + element("messages", messages)).encode()
