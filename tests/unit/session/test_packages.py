# SPDX-License-Identifier: BSD-3-Clause
"""The place for packages that a person installs for the site's kernel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gridhub.session.packages import SITE_PACKAGES, person_packages, site_packages


def ask(place: Path, code: str, **environment: str) -> str:
    ran = subprocess.run(
        [place / "bin/python", "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", SITE_PACKAGES: site_packages()} | environment,
        check=True,
    )
    return ran.stdout.strip()


@pytest.mark.parametrize("home", ["home", "a home with blanks"])
def test_its_python_finds_the_notebook_environments_packages_after_its_own(
    tmp_path: Path, home: str
) -> None:
    place = person_packages(tmp_path / home)
    path = ask(place, "import sys, pytest; print('\\n'.join(sys.path))").splitlines()
    own = next(each for each in path if each.startswith(str(place)))
    assert path.index(own) < path.index(site_packages())
    assert ask(place, "import sys; print(sys.prefix)") == str(place)


@pytest.mark.parametrize("pip", [["bin/pip"], ["bin/python", "-m", "pip"], ["bin/pip3.11"]])
def test_pip_ignores_the_user_scheme_and_packages_of_another_python(
    tmp_path: Path, pip: list[str]
) -> None:
    place = person_packages(tmp_path / "home")
    # As pip writes itself, after an update of pip.
    own = place / "bin/pip3.11"
    own.write_text(f"#!{place}/bin/python\nfrom pip._internal.cli.main import main\nmain()\n")
    own.chmod(0o755)
    source = tmp_path / "own"
    source.mkdir()
    (source / "own-1.dist-info").mkdir()
    wheel = tmp_path / "own-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("own.py", "")
        archive.writestr(
            "own-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: own\nVersion: 1\n"
        )
        archive.writestr(
            "own-1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("own-1.dist-info/RECORD", "")
    old = tmp_path / "old"
    old.mkdir()
    (old / "pip.py").write_text("print 'for another Python'", encoding="utf-8")
    environment = {"PATH": "/usr/bin:/bin", SITE_PACKAGES: site_packages(), "PIP_USER": "1"}
    if pip == ["bin/pip"]:
        environment["PYTHONPATH"] = str(old)
    ran = subprocess.run(
        [place / pip[0], *pip[1:], "install", "--user", "--no-index", wheel],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ask(place, "import own; print(own.__file__)").startswith(str(place))


@pytest.mark.parametrize("name", ["pipeline.py", "pipx", "pip", "install.py"])
def test_other_programs_keep_their_arguments(tmp_path: Path, name: str) -> None:
    place = person_packages(tmp_path)
    (tmp_path / name).write_text("import sys; print(sys.argv[1:])", encoding="utf-8")
    word = "freeze" if name == "pip" else "install"
    ran = subprocess.run(
        [place / "bin/python", tmp_path / name, word, "--user"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == f"['{word}', '--user']\n"


def test_lines_of_an_earlier_release_are_replaced_if_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = person_packages(tmp_path)
    (lines,) = place.glob("lib/*/site-packages/gridhub.pth")
    new = lines.read_text(encoding="utf-8")
    lines.write_text("import os\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        assert person_packages(tmp_path) == place
    assert list(lines.parent.glob("gridhub.pth*")) == [lines]
    person_packages(tmp_path)
    assert lines.read_text(encoding="utf-8") == new


def test_a_second_session_keeps_what_is_there(tmp_path: Path) -> None:
    place = person_packages(tmp_path)
    module = next(place.glob("lib/*/site-packages")) / "own.py"
    module.write_text("x = 5", encoding="utf-8")
    (place / "bin/pip").write_text("of pip", encoding="utf-8")
    assert person_packages(tmp_path) == place
    assert ask(place, "import own; print(own.x)") == "5"
    assert (place / "bin/pip").read_text(encoding="utf-8") == "of pip"


@pytest.mark.parametrize("lost", ["bin/python", "pyvenv.cfg", "lib", "bin/pip"])
def test_what_is_missing_is_made_again(tmp_path: Path, lost: str) -> None:
    place = person_packages(tmp_path)
    path = place / lost
    if path.is_dir():
        path.rename(tmp_path / "away")
    else:
        path.unlink()
    person_packages(tmp_path)
    assert ask(place, "import pytest; print(1)") == "1"
    assert (place / "bin/pip").exists()


def test_after_an_upgrade_of_python_the_link_leads_to_the_new_one(tmp_path: Path) -> None:
    place = person_packages(tmp_path)
    for link in (place / "bin").glob("python*"):
        link.unlink()
    (place / "bin/python").symlink_to("/nonexistent/python")
    person_packages(tmp_path)
    assert (place / "bin/python").samefile(sys._base_executable)  # type: ignore[attr-defined]


def test_a_home_without_room_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / ".local").touch()
    with pytest.raises(OSError, match="Not a directory"):
        person_packages(tmp_path)
