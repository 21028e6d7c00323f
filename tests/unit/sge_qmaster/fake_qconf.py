# SPDX-License-Identifier: BSD-3-Clause
"""Outputs recorded from qconf of several Grid Engines, and a fake qconf that replays them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_apply import ensure_present
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_qconf import Qconf, Result
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_store import Store
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import parse_object

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data" / "qconf"


def recorded(name: str) -> str:
    """Return a recorded output; names with a version are those of Open Cluster Scheduler."""
    if "/" in name:
        return (DATA.parent / "ocs" / name).read_text(encoding="utf-8")
    return (DATA / f"{name}.txt").read_text(encoding="utf-8")


def recorded_object(name: str) -> dict[str, str]:
    return parse_object(recorded(name))


OBJECTS = {
    "queue": "queue",
    "pe": "pe",
    "exec_host": "exec_host",
    "host_group": "host_group",
    "user_set": "user_set",
    "project": "project",
    "scheduler": "scheduler",
    "configuration_global": "configuration",
    "configuration_host": "configuration",
}


class FakeQconf(Qconf):
    """A qconf that answers calls with recorded outputs, and records the calls and their files."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        super().__init__("/usr/bin/qconf", "/nowhere", "default", 5, None)
        self.answers = list(answers)
        self.calls: list[list[str]] = []
        self.files: list[str] = []

    def call(self, *args: str) -> Any:
        self.calls.append(list(args))
        if len(args) > 1 and (file := Path(args[1])).exists():
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
            self.files.append(file.read_text(encoding="utf-8"))
            self.path_of_file = file
        rc, name = self.answers.pop(0)
        text = recorded(name) if name else ""
        out, err = ("", text) if name.endswith(".err") else (text, "")
        return Result(["qconf", *args], rc, out, err)


def present(
    qconf: FakeQconf,
    kind: str,
    name: str,
    check: bool = False,
    dialect: str = "sge",
    **wanted: Any,
) -> Any:
    return ensure_present(Store(qconf, kind, name, dialect), wanted, check)
