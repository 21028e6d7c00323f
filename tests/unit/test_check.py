"""How ``sge_check.py`` checks files before Ansible deploys them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from folders import FILES

MENU = {
    "items": [
        {
            "name": "cores",
            "label": "CPU cores",
            "request": {"kind": "slots", "parallel_environment": "smp"},
            "choices": [1, 2],
            "default": 1,
        }
    ]
}
GOOD: dict[str, object] = {
    "menu": MENU,
    "words": {"choice.not_possible": "{label}: no."},
    "announcement": {"text": "The file server is slow today."},
    "window": {"begin": "2030-01-31 18:00", "end": "2030-01-31 20:00", "rule": "cap"},
    "broker": {
        "hub_user": "jupyterhub",
        "menu": "/etc/jupyterhub/menu.json",
        "job_script": "/etc/jupyterhub/session.sh",
        "minimum_uid": 1000,
        "sge_root": "/var/lib/gridengine",
        "sge_cell": "default",
        "sge_bin_dir": "/usr/bin",
        "timeout": 10,
        "ports": [40000, 40999],
    },
}
GOOD["inventory"] = {kind: GOOD[kind] for kind in ("menu", "words", "broker")}
WRONG = {
    "menu": ({"items": [MENU["items"][0] | {"default": 9}]}, "item 'cores'"),
    "words": ({"page.titel": "Sessions"}, "page.titel"),
    "announcement": ({"text": ""}, "text must have"),
    "window": ({"begin": "2030-01-31 18:00", "end": "2030-01-30", "rule": "cap"}, "window_end"),
    "broker": ({"hub_user": "jupyterhub"}, "menu: "),
    "inventory": ({"words": {}, "broker": {"hub_user": "jupyterhub"}}, "menu: "),
}


def check(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-sE", str(FILES / "sge_check.py"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_file_is_accepted(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps(GOOD[kind]), encoding="utf-8")
    done = check(kind, str(file))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_value_is_named(kind: str) -> None:
    content, words = WRONG[kind]
    done = check(kind, "-", stdin=json.dumps(content))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", GOOD)
def test_text_that_is_not_json_is_refused(kind: str) -> None:
    done = check(kind, "-", stdin="[")
    assert done.returncode == 1
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = check("menu", str(tmp_path / "nothing.json"))
    assert done.returncode == 1
    assert "nothing.json cannot be read" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("menu",), ("colour", "-"), ("menu", "-", "-")])
def test_a_wrong_call_shows_the_usage(arguments: tuple[str, ...]) -> None:
    done = check(*arguments)
    assert done.returncode == 2
    assert "usage: sge_check.py" in done.stderr
