"""``playbooks/status.yml``: the queues that a run of ``patch_workers.yml`` has left disabled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from folders import ROOT

#: A fake qselect. Like the real one, it fails both if no queue is disabled and if the qmaster does
#: not answer.
QSELECT = """#!/bin/sh
cd {folder}
[ ! -e silent ] || exit 1
[ "$1" = -qs ] || exec echo all.q@exec1
[ -e disabled ] && cat disabled
"""
LEFT = (
    "all.q@exec1 was left disabled by playbooks/patch_workers.yml: repair the worker, and run it "
    "again; or qmod -e"
)
PERHAPS = "all.q@exec1 may still be disabled by playbooks/patch_workers.yml: the hub does not know"


@pytest.mark.parametrize(
    ("noted", "disabled", "answers", "limit", "words"),
    [
        (True, True, True, "all", LEFT),
        (True, False, True, "all", ""),
        (False, True, True, "all", ""),  # by an administrator
        (True, True, False, "all", PERHAPS),
        (True, True, True, "exec1", PERHAPS),
        (False, True, False, "all", ""),
    ],
)
def test_queues_that_a_run_left_or_may_have_left_disabled_are_reported(
    noted: bool, disabled: bool, answers: bool, limit: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "qselect").write_text(QSELECT.format(folder=tmp_path), encoding="utf-8")
    (tmp_path / "qselect").chmod(0o755)
    if noted:
        (tmp_path / "disabled-queues").write_text("all.q@exec1\n", encoding="utf-8")
    if disabled:
        (tmp_path / "disabled").write_text("all.q@exec1\n", encoding="utf-8")
    if not answers:
        (tmp_path / "silent").touch()
    everybody = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "sge_common_bin_dir": str(tmp_path),
        "patch_note_folder": str(tmp_path),
    }
    groups = {"hub": {"hosts": {"hub": {}}}, "sge_exec": {"hosts": {"exec1": {}}}}
    inventory = {"all": {"vars": everybody, "children": groups}}
    (tmp_path / "hosts.yml").write_text(json.dumps(inventory), encoding="utf-8")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("--inventory", tmp_path / "hosts.yml", "--limit", limit),
            ROOT / "playbooks/status.yml",
        ],
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = " ".join(done.stdout.split())
    assert words in output
    # Only the worker counts: the hub of this test is not a real hub and fails for other reasons.
    assert ("[exec1]: FAILED!" in output) is bool(words), output
