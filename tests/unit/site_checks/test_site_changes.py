# SPDX-License-Identifier: BSD-3-Clause
"""Variables of old names and unread breaking changes stop a deployment."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from folders import ROOT
from gridhub.site import changes
from gridhub.site.changes import Change, breaking_problems, changed_problems, version_key
from inventories import PLUGIN, problems

CHANGED = {
    "jupyterhub_old": Change("0.2.0", "jupyterhub_new"),
    "proxy_gone": Change("0.3.0", note="nginx decides it; delete the line."),
}
BREAKING = {"0.2.0": "set a", "0.10.0": "set b"}


def test_a_renamed_variable_is_shown_with_its_new_name() -> None:
    (found,) = changed_problems({"hub": {"jupyterhub_old": 1, "jupyterhub_new": 2}}, CHANGED)
    assert str(found) == "hub: jupyterhub_old -> jupyterhub_new, since version 0.2.0."


def test_a_removed_variable_is_shown_with_what_to_do() -> None:
    (found,) = changed_problems({"proxy": {"proxy_gone": 1}}, CHANGED)
    assert "proxy_gone -> (removed), since version 0.3.0. nginx decides it" in str(found)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        ("", ["0.2.0: set a; 0.10.0: set b"]),
        ("0.2.0", ["0.10.0: set b"]),
        ("0.9.9", ["0.10.0: set b"]),
        ("0.10.0", []),
        ("0.11.0", []),
        ("1.0.0", ["name one that you have read"]),
        ("newest", ["it must be a version"]),
        (0.2, ["it must be a version"]),
    ],
)
def test_breaking_changes_must_have_been_read(read: Any, expected: list[str]) -> None:
    found = list(breaking_problems(read, "0.11.0", BREAKING))
    assert len(found) == len(expected)
    for problem, words in zip(found, expected, strict=True):
        assert words in problem
    if expected and "set" in expected[0]:
        assert 'set jupyterhub_changes_read: "0.10.0"' in found[0]


def test_both_are_problems_of_an_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(changes.CHANGED, "jupyterhub_old", Change("0.2.0", "jupyterhub_new"))
    monkeypatch.setitem(changes.BREAKING, "1.0.0", "set a")
    found = problems(jupyterhub_old=1)
    assert any("jupyterhub_old -> jupyterhub_new" in each for each in found), found
    assert any("1.0.0: set a" in each for each in found), found


def test_the_changelog_and_the_table_name_the_same_breaking_changes() -> None:
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ([0-9.]+).*$", log, flags=re.MULTILINE)[1:]
    for version, text in zip(parts[::2], parts[1::2], strict=True):
        breaking = re.search(r"^### Breaking\n+(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL)
        is_breaking = bool(breaking) and not breaking[1].startswith("- None")
        assert is_breaking is (version in changes.BREAKING), version


def test_a_renamed_variable_no_longer_exists_and_its_new_name_does() -> None:
    declared = set(PLUGIN._options())
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert version == changes.VERSION
    for old, change in changes.CHANGED.items():
        assert old not in declared
        assert not change.new or change.new in declared
        assert change.new or change.note
        assert version_key(change.version) <= version_key(version)
