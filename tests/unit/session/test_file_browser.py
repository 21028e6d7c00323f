# SPDX-License-Identifier: BSD-3-Clause
"""The file browser's root folder and shortcuts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gridhub.session import file_browser
from gridhub.session.file_browser import FileBrowser, page_settings, path_in_home, root_arguments
from gridhub.session.rules import Rules
from watching import RULES

WORDS = {"shortcuts": "Shortcuts", "shortcut_home": "Home"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A root folder with homes, a scratch folder, and a folder that only root can open."""
    for name in ("home/alice", "scratch/alice", "closed"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder on a file server that does not answer."""
    is_dir = Path.is_dir

    def slow_is_dir(path: Path) -> bool:
        if path.parts[:2] == ("/", "silent"):
            time.sleep(1000)  # in a child process, which the code under test ends
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", slow_is_dir)
    monkeypatch.setattr(file_browser, "ANSWER_WITHIN", 0.3)
    return "/silent"


class TestRootFolder:
    def test_it_is_the_home_by_default(self, site: Path) -> None:
        home = site / "home/alice"
        assert FileBrowser(home, "", {}).root() == (str(home), "")
        assert FileBrowser(home, str(home), {}).root() == (str(home), "")
        assert root_arguments(str(home), home) == []

    def test_it_is_the_folder_of_the_site(self, site: Path) -> None:
        home = site / "home/alice"
        assert FileBrowser(home, str(site), {}).root() == (str(site), "")
        assert root_arguments(str(site), home) == [
            f"--ServerApp.root_dir={site}",
            f"--FileContentsManager.root_dir={site}",
            "--FileContentsManager.preferred_dir=home/alice",
        ]

    def test_a_home_outside_the_root_folder_is_not_opened_first(self, site: Path) -> None:
        arguments = root_arguments(str(site / "scratch"), site / "home/alice")
        assert not [each for each in arguments if "preferred_dir" in each]

    @pytest.mark.parametrize("name", ["missing", "file"])
    def test_a_folder_that_cannot_be_opened_is_replaced(self, site: Path, name: str) -> None:
        home = site / "home/alice"
        assert FileBrowser(home, str(site / name), {}).root() == (str(home), str(site / name))

    def test_a_folder_that_does_not_answer_is_replaced(self, site: Path, silent: str) -> None:
        home = site / "home/alice"
        assert FileBrowser(home, silent, {}).root() == (str(home), silent)

    def test_a_home_in_a_hidden_folder_stays_the_root(self, site: Path) -> None:
        home = site / ".homes/alice"
        home.mkdir(parents=True)
        assert FileBrowser(home, str(site), {}).root() == (str(home), "")


class TestShortcuts:
    def test_folders_that_can_be_opened_are_offered(self, site: Path) -> None:
        paths = {"Scratch": str(site / "scratch/alice"), "New": str(site / "new")}
        browser = FileBrowser(site / "home/alice", str(site), paths)
        assert browser.shortcuts(str(site)) == ({"Scratch": paths["Scratch"]}, [])

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
    def test_a_closed_folder_is_left_out(self, site: Path) -> None:
        browser = FileBrowser(site / "home/alice", str(site), {"Closed": str(site / "closed")})
        assert browser.shortcuts(str(site)) == ({}, [])

    def test_a_folder_that_does_not_answer_is_named(self, site: Path, silent: str) -> None:
        paths = {"Scratch": str(site / "scratch"), "Silent": silent}
        browser = FileBrowser(site / "home/alice", "/", paths)
        assert browser.root() == ("/", "")
        assert browser.shortcuts("/") == ({"Scratch": paths["Scratch"]}, [silent])

    def test_of_a_root_folder_that_does_not_answer_only_the_root_is_named(
        self, site: Path, silent: str
    ) -> None:
        home = site / "home/alice"
        paths = {str(number): f"{silent}/{number}" for number in range(20)}
        browser = FileBrowser(home, silent, paths)
        assert browser.root() == (str(home), silent)
        assert browser.shortcuts(str(home)) == ({}, [])

    def test_many_folders_need_no_address_space_of_the_session(self, site: Path) -> None:
        before = Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]
        paths = {str(number): str(site / str(number)) for number in range(30)}
        assert FileBrowser(site / "home/alice", "/", paths).shortcuts("/") == ({}, [])
        after = Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]
        assert int(after) - int(before) < 10_000  # pages of 4 kB

    def test_a_folder_outside_the_root_is_left_out(self, site: Path) -> None:
        home = site / "home/alice"
        browser = FileBrowser(home, str(site / "missing"), {"Scratch": str(site / "scratch")})
        root, unusable = browser.root()
        assert (root, unusable) == (str(home), str(site / "missing"))
        assert browser.shortcuts(root) == ({}, [])


class TestPage:
    RULES: Rules = RULES._replace(words=RULES.words | WORDS)

    def test_paths_start_at_the_root(self) -> None:
        home = Path("/home/alice")
        assert page_settings(self.RULES, "/", home, {"Scratch": "/scratch/alice"}) == {
            "gridhubShortcuts": {
                "heading": "Shortcuts",
                "folders": [
                    {"name": "Home", "path": "home/alice"},
                    {"name": "Scratch", "path": "scratch/alice"},
                ],
            }
        }

    def test_the_root_itself_may_be_a_shortcut(self) -> None:
        settings = page_settings(self.RULES, "/projects", Path("/home/a"), {"All": "/projects"})
        assert settings["gridhubShortcuts"]["folders"] == [{"name": "All", "path": ""}]

    def test_without_shortcuts_nothing_is_shown(self) -> None:
        assert page_settings(self.RULES, "/", Path("/home/alice"), {}) == {}


class TestLinks:
    @pytest.fixture
    def home(self, site: Path) -> Path:
        home = site / "home/alice"
        (home / "course").mkdir()
        (home / "course/week 1.ipynb").touch()
        (site / "course").mkdir()
        return home

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("course/week 1.ipynb", "home/alice/course/week 1.ipynb"),
            ("course", None),  # also below the root, which comes first
            ("home/alice/course", None),
            ("missing.ipynb", None),
            ("course/../course/week 1.ipynb", None),
            ("", None),
            ("/", None),
            ("a\0b", None),
            ("a" * 300, None),
        ],
    )
    def test_a_link_made_for_the_home_is_found_there(
        self, site: Path, home: Path, path: str, found: str | None
    ) -> None:
        assert path_in_home(path, str(site), home) == found

    def test_a_home_outside_the_root_folder_has_no_links(self, site: Path, home: Path) -> None:
        assert path_in_home("course/week 1.ipynb", str(site / "scratch"), home) is None
