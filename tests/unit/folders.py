# SPDX-License-Identifier: BSD-3-Clause
"""Folders of the project."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "files"
#: Recorded outputs.
DATA = ROOT / "tests/unit/data"
#: Outputs of qstat, qsub and qdel; the README.md there explains how they were recorded.
QSTAT = DATA / "qstat"
#: Outputs of Open Cluster Scheduler, by version; the README.md there explains them.
OCS = DATA / "ocs"
