"""The module that writes the files of a role in one call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from folders import ROOT


def file_set(folder: Path, *arguments: str, fails: bool = False, **given: Any) -> str:
    """Call the module on this machine; return the output."""
    task = {"gridhub.gridhub.file_set": given, "name": "Write files"}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
    (folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *arguments, "play.yml"],
        cwd=folder,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def entry(path: Path, content: str = "", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "content": content, **more}


def test_files_and_folders_are_written_once(tmp_path: Path) -> None:
    place = tmp_path / "place"
    given: dict[str, Any] = {
        "folders": [{"path": str(place), "mode": "0750"}],
        "files": [
            entry(place / "plain", "one\n"),
            entry(place / "program", "#!/bin/sh\n"),
            entry(place / "key", "hidden\n", mode="0400", secret=True),
        ],
    }
    shown = file_set(tmp_path, "--check", "--diff", **given)
    assert "changed=1" in shown and "+one" in shown and "hidden" not in shown
    assert not place.exists()
    assert "changed=1" in file_set(tmp_path, **given)
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()}
    assert modes == {"plain": 0o644, "program": 0o755, "key": 0o400}
    assert place.stat().st_mode & 0o777 == 0o750
    assert (place / "key").read_text(encoding="utf-8") == "hidden\n"
    for arguments in ((), ("--check", "--diff")):
        assert "changed=0" in file_set(tmp_path, *arguments, **given)
    # Another mode is a change too.
    (place / "key").chmod(0o444)
    assert "changed=1" in file_set(tmp_path, "--check", **given)
    assert "changed=1" in file_set(tmp_path, **given)
    assert (place / "key").stat().st_mode & 0o777 == 0o400


def test_content_that_its_check_refuses_replaces_no_file(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for path in (first, second):
        path.write_text("old\n", encoding="utf-8")
    given: list[dict[str, Any]] = [
        entry(first, "new\n", validate="grep -q new %s", backup=True),
        entry(second, "bad\n", validate="grep -q new %s"),
        entry(third, "new\n"),
    ]
    shown = file_set(tmp_path, fails=True, files=given)
    assert f"{second} is not valid, and was not replaced" in shown
    assert first.read_text("utf-8") == "new\n" and second.read_text("utf-8") == "old\n"
    assert not third.exists()
    [backup] = tmp_path.glob("first.*~")
    assert backup.read_text("utf-8") == "old\n"
    # A file that is already as wanted is not checked.
    assert "changed=0" in file_set(tmp_path, files=[entry(first, "new\n", validate="false %s")])


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("of somebody else\n", encoding="utf-8")
    link.symlink_to(target)
    file_set(tmp_path, files=[entry(link, "ours\n")])
    assert not link.is_symlink() and link.read_text("utf-8") == "ours\n"
    assert target.read_text("utf-8") == "of somebody else\n"
    assert "changed=1" in file_set(tmp_path, absent=[str(link)])
    assert not link.exists()
    assert "changed=0" in file_set(tmp_path, absent=[str(link)])


def test_the_contents_are_in_no_output_and_in_no_argument_for_the_log(tmp_path: Path) -> None:
    """Modules log their arguments on the host, unless Ansible asks them not to."""
    log, systemd = tmp_path / "log", tmp_path / "modules/systemd"
    systemd.mkdir(parents=True)
    (systemd / "__init__.py").touch()
    (systemd / "daemon.py").write_text("def booted(): return True\n", encoding="utf-8")
    (systemd / "journal.py").write_text(
        f"def send(*given, **more): print(given, more, file=open({str(log)!r}, 'a'))\n"
        "sendv = send\n",
        encoding="utf-8",
    )
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH={tmp_path / "modules"} exec {sys.executable} "$@"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    interpreter = ("-e", f"ansible_python_interpreter={python}")
    files = [entry(tmp_path / "key", "5ec4e7\n", secret=True)]
    shown = file_set(tmp_path, *interpreter, "-vvv", "--diff", files=files)
    assert "changed=1" in shown and "5ec4e7" not in shown
    assert not log.exists() or "5ec4e7" not in log.read_text(encoding="utf-8")
