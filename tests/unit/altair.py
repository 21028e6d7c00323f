# SPDX-License-Identifier: BSD-3-Clause
"""Answers of Altair's Grid Engine, rebuilt from public descriptions: none was seen."""

from __future__ import annotations

import re
from typing import Any

from folders import DATA


def record(name: str, fields: int = 55, **changes: Any) -> str:
    """Make an accounting record from one of 8.1.9.

    :param fields: how many fields it has: 52, 54 or 55, or another number for a wrong record.
    :param changes: other values, such as ``f5`` for the field with the index 5.
    """
    text = (DATA / "accounting").read_text("utf-8")
    line = next(each for each in text.splitlines() if f":{name}:" in each)
    old = line.split(":")
    for place in (8, 9, 10):
        old[place] += "123"  # milliseconds
    deleted = "root@exec1" if name == "t-qdel" else "NONE"
    new = [
        *("default", deleted, "31457280.000000", "20971520.000000", "hub", "/home/alice"),
        "qsub -l h_rt=1\xff0\xff0 -N x /opt/job.sh",
        *("20123.456", "17.000000"),
        "NONE",
    ]
    values = [*old, *new][:fields]
    for place, value in changes.items():
        values[int(place.removeprefix("f"))] = str(value)
    return ":".join(values)


def job_list(xml: str) -> str:
    """Make a list of jobs from one of 8.1.9: with job classes and fractions of a second."""
    xml = re.sub(r"(T\d\d:\d\d:\d\d)<", r"\1.123<", xml)
    return xml.replace("</state>", "</state><jclass_name>default</jclass_name>")
