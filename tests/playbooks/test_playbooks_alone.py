"""Small playbooks without a real host: with ``--check``, a made-up report or a fake program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from folders import ROOT

HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
STARTED = "2026-12-08T03:26:00+00:00"


def playbook(
    name: str | Path, folder: Path, *arguments: str, group: str = "hub", **variables: object
) -> subprocess.CompletedProcess[str]:
    """Run a playbook with an inventory in which this machine is the host of ``group``."""
    groups = {each: {"hosts": {"here": HERE}} for each in {group, "proxy"}}
    inventory = folder / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"children": groups}}), encoding="utf-8")
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("--inventory", inventory, ROOT / "playbooks" / name),
            *("--extra-vars", json.dumps(variables), *arguments),
        ],
        cwd=folder,
        env=os.environ
        | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def output(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("running", "words"),
    [
        ("", "here: next none; last none'"),
        (STARTED, f"here: next none; last none; running since {STARTED}, updating"),
    ],
    ids=["none", "running"],
)
def test_the_status_shows_since_when_a_maintenance_has_run(
    running: str, words: str, tmp_path: Path
) -> None:
    seen = {"next": None, "problems": [], "last": None, "running": running, "phase": "updating"}
    done = playbook(
        "status.yml",
        tmp_path,
        group="maintenance",
        maintenance_timer=False,
        status_report={"rc": 0, "stdout": json.dumps(seen)},
        status_units=[],
    )
    assert done.returncode == 0, output(done)
    assert words in output(done)


#: For each playbook: right variables, a line of the output that shows them, and wrong variables
#: with their error messages. The error messages come from the role's argument specification or from
#: the hub's own checker.
WORDS: dict[str, tuple[dict[str, str], str, list[tuple[dict[str, str], str]]]] = {
    "announce.yml": (
        {"announce_text": "two words", "announce_level": "info"},
        '+ "text": "two words"',
        [
            (
                {"announce_level": "loud"},
                "value of announce_level must be one of: info, warning, got: loud",
            ),
            ({"announce_until": "never"}, "until must be"),
        ],
    ),
    "drain.yml": (
        {"drain_text": "two words", "drain_until": "2099-01-31 18:00"},
        '+ "text": "two words"',
        [
            ({"drain_until": "never"}, "must be times such as 2030-01-31 18:00"),
            ({"drain_from": "2099-02-01 00:00"}, "must be after drain_from"),
        ],
    ),
    "worker_window.yml": (
        {"window_begin": "2030-01-31 18:00", "window_end": "2030-01-31 22:00"},
        '+ "begin": "2030-01-31 18:00"',
        [
            ({"window_end": "2030-01-31 12:00"}, "must be after window_begin"),
            (
                {"window_rule": "ask"},
                "value of window_rule must be one of: refuse, cap, got: ask",
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_check_shows_the_text_for_people_and_refuses_wrong_variables(
    name: str, tmp_path: Path
) -> None:
    right, shown, refusals = WORDS[name]
    # The checker needs the hub's Python and the hub's modules.
    (tmp_path / "python").symlink_to(sys.executable)
    hub = {"__jupyterhub_bin": str(tmp_path), "__jupyterhub_release": str(ROOT / "files")}
    there = sorted(Path("/etc").glob("jupyterhub/*"))

    done = playbook(name, tmp_path, "--check", **hub, **right)
    assert done.returncode == 0 and shown in output(done), output(done)
    for wrong, refusal in refusals:
        done = playbook(name, tmp_path, "--check", **hub, **right | wrong)
        assert done.returncode != 0 and refusal in output(done), output(done)
        assert shown not in output(done)
    done = playbook(name, tmp_path, "--check", **hub)
    assert done.returncode == 0, output(done)
    # If the hub's Python is missing, nothing can check the file. Then the playbook fails even with
    # --check.
    done = playbook(name, tmp_path, "--check", **hub | {"__jupyterhub_bin": "/no/hub"}, **right)
    assert done.returncode != 0 and "/no/hub/python" in output(done)

    assert sorted(Path("/etc").glob("jupyterhub/*")) == there


@pytest.mark.parametrize("there", [False, True], ids=["first run", "later"])
def test_check_shows_the_plan_before_and_after_the_program_is_installed(
    there: bool, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    if there:
        program.write_text("print('Reboot: when_required')", encoding="utf-8")
    done = playbook(
        "patch.yml",
        tmp_path,
        "--check",
        group="maintenance",
        __maintenance_program=str(program),
        maintenance_reboot="when_required",
    )
    assert done.returncode == 0, output(done)
    assert "Reboot: when_required" in output(done)
    assert ("playbooks/site.yml installs it" in output(done)) is not there


#: A fake maintenance program, which says that the maintenance is held. When called with ``update``,
#: it only notes the call.
HELD = """
import json, pathlib, sys
noted = pathlib.Path(__file__).with_suffix(".noted")
if sys.argv[1] == "update":
    noted.touch()
last = {"started": "2026-12-08T03:26:00+00:00", "result": "held"} if noted.exists() else None
held = "held until 2126-01-31 18:00 UTC: exams"
print(json.dumps({"last": last, "held": held, "problems": [], "phase": "", "unfinished": False}))
"""


def test_patch_by_hand_fails_with_the_reason_on_a_held_host(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HELD, encoding="utf-8")
    done = playbook("patch.yml", tmp_path, group="maintenance", __maintenance_program=str(program))
    assert program.with_suffix(".noted").exists()
    assert done.returncode != 0
    assert "held until 2126-01-31 18:00 UTC: exams" in output(done)


def test_patch_by_hand_names_the_playbook_that_installs_the_missing_program(
    tmp_path: Path,
) -> None:
    program = str(tmp_path / "program.py")
    done = playbook("patch.yml", tmp_path, group="maintenance", __maintenance_program=program)
    assert done.returncode != 0
    assert f"{program} is not there: run playbooks/site.yml first" in output(done)


@pytest.mark.parametrize("answer", ["", "yes", "hub", "here,there"])
def test_nothing_is_uninstalled_without_the_name_of_the_hosts(answer: str, tmp_path: Path) -> None:
    done = playbook("uninstall.yml", tmp_path, uninstall_confirm=answer)
    words = f"run this again with -e uninstall_confirm={tmp_path.name}"
    assert done.returncode != 0 and words in output(done), output(done)
    assert "TASK [uninstall :" not in output(done)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"drain_notice": "x"}, "need drain_until"),
        ({"drain_end_sessions": True}, "need drain_until"),
        ({"drain_until": "2099-01-01", "drain_notice_minutes": "soon"}, "('soon') is a number"),
    ],
)
def test_a_drain_with_contradicting_variables_is_refused(
    variables: dict[str, object], words: str, tmp_path: Path
) -> None:
    done = playbook("drain.yml", tmp_path, **variables)
    assert done.returncode != 0 and words in output(done), output(done)


def test_a_smoke_test_needs_a_canary_account(tmp_path: Path) -> None:
    done = playbook("smoke.yml", tmp_path)
    assert done.returncode != 0 and "There is no canary account" in output(done), output(done)
