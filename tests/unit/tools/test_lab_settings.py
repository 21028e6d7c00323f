"""The check of a site's default settings of JupyterLab, before a release is used."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from folders import ROOT

sys.path.insert(0, str(ROOT / "roles/sge_exec/files"))

import check_lab_settings

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
    monkeypatch.setattr(sys, "argv", ["check_lab_settings.py", str(release)])
    return check_lab_settings.main()


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
