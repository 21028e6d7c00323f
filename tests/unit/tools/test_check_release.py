"""The check of a release of the notebook environment, before it is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from folders import FILES, ROOT

sys.path.insert(0, str(ROOT / "roles/sge_exec/files"))

import check_release

THEMES = "@jupyterlab/apputils-extension:themes"
SCHEMA = {
    "jupyter.lab.toolbars": {},
    "definitions": {"size": {"type": "integer"}},
    "properties": {"theme": {"type": "string"}, "size": {"$ref": "#/definitions/size"}},
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Make a release with the schema of one part of JupyterLab and of one package."""
    share = tmp_path / "env/share/jupyter"
    for path in (
        "lab/schemas/@jupyterlab/apputils-extension/themes.json",
        "labextensions/@someone/git/schemas/@someone/git/plugin.json",
        "labextensions/clock/schemas/clock/plugin.json",
    ):
        (share / path).parent.mkdir(parents=True)
        (share / path).write_text(json.dumps(SCHEMA), encoding="utf-8")
    (tmp_path / "lab/settings").mkdir(parents=True)
    return tmp_path


def check(release: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    path = release / "lab/settings/overrides.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["check_release.py", str(release)])
    monkeypatch.setattr(check_release, "import_problem", lambda release: "")
    return check_release.main()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {THEMES: {"theme": "JupyterLab Dark", "size": 3}},
        {"@someone/git:plugin": {"jupyter.lab.toolbars": {}}},
        {"clock:plugin": {}},
    ],
)
def test_settings_that_take_effect_are_accepted(
    release: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(release, settings, monkeypatch) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"@jupyterlab/apputils:themes": {}}, f"is installed; similar: {THEMES}"),
        ({"x": {}}, "x: no such extension is installed"),
        ({THEMES: {"colour": "red"}}, "there is no setting colour; there are: size, theme"),
        ({THEMES: {"theme": True}}, "theme: True is not of type 'string'"),
        ({THEMES: {"size": "3"}}, "size: '3' is not of type 'integer'"),
        ({THEMES: "dark"}, "'dark' is not a dictionary of settings"),
    ],
)
def test_settings_without_effect_are_named(
    release: Path,
    settings: Any,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check(release, settings, monkeypatch) == 1
    shown = capsys.readouterr().err
    assert words in shown and "Change sge_exec_lab_settings in the inventory" in shown


def test_a_server_that_cannot_be_imported_is_refused(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # These tests run without Jupyter Server.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["check_release.py", str(FILES)])
    assert check_release.main() == 1
    shown = capsys.readouterr().err
    assert "the server of a session cannot be imported" in shown
    assert "No module named 'jupyter_server'" in shown
    assert "sge_exec_requirements" in shown
