# SPDX-License-Identifier: BSD-3-Clause
"""The version is in files/gridhub/site/changes.py; what must be literal agrees with it."""

from __future__ import annotations

import re

import pytest
import yaml

from folders import ROOT
from gridhub.site.changes import VERSION


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_collection_has_the_version() -> None:
    assert yaml.safe_load(read("galaxy.yml"))["version"] == VERSION


def test_the_newest_entry_of_the_changelog_is_of_the_version() -> None:
    newest = re.search(r"^## ([0-9.]+) \((.+)\)$", read("CHANGELOG.md"), re.MULTILINE)
    assert newest and newest[1] == VERSION
    assert re.fullmatch(r"\d{4}-\d\d-\d\d|not released yet", newest[2])


@pytest.mark.parametrize("page", ["docs/administrators/collection.md"])
def test_a_page_that_names_the_version_is_up_to_date(page: str) -> None:
    assert set(re.findall(r"\bv(\d+\.\d+\.\d+)\b", read(page))) == {VERSION}
