# SPDX-License-Identifier: BSD-3-Clause
"""The folders that the file browser offers, by Unix group."""

from __future__ import annotations

import json
import pwd
from typing import Any

import pytest

from gridhub.broker.config import Config, ConfigError, parse_config
from gridhub.broker.folders import folders_for

ALICE = pwd.struct_passwd(("alice", "x", 5001, 100, "", "/home/a/alice/", "/bin/bash"))
SCRATCH = {"name": "Scratch", "path": "/scratch/{user}"}
PHYSICS = {"name": "Projects", "path": "/projects/physics/", "groups": ["physics"]}
CHEMISTRY = {"name": "Projects", "path": "/projects/chemistry", "groups": ["chemistry"]}


def with_folders(config: Config, roots: list[Any], shortcuts: list[Any]) -> Config:
    values = {"root_folders": roots, "shortcuts": shortcuts}
    return parse_config(json.dumps(config.model_dump(mode="json") | values).encode())


def folders(config: Config, *groups: str) -> dict[str, Any]:
    return folders_for(ALICE, groups, config.root_folders, config.shortcuts)


class TestFolders:
    def test_without_folders_the_home_is_the_root(self, config: Config) -> None:
        assert folders(config) == {}

    def test_shortcuts_depend_on_the_groups(self, config: Config) -> None:
        site = with_folders(config, [{"path": "/"}], [SCRATCH, PHYSICS, CHEMISTRY])
        scratch = {"Scratch": "/scratch/alice"}
        assert folders(site, "users") == {"root_folder": "/", "shortcuts": scratch}
        chemistry = scratch | {"Projects": "/projects/chemistry"}
        assert folders(site, "chemistry")["shortcuts"] == chemistry
        both = folders(site, "chemistry", "physics")["shortcuts"]
        assert both == scratch | {"Projects": "/projects/physics"}

    def test_the_first_root_folder_for_a_group_counts(self, config: Config) -> None:
        roots = [{"path": "/", "groups": ["staff"]}, {"path": "/projects"}]
        site = with_folders(config, roots, [SCRATCH, PHYSICS])
        assert folders(site, "staff")["root_folder"] == "/"
        physics = {"Projects": "/projects/physics"}
        assert folders(site, "physics") == {"root_folder": "/projects", "shortcuts": physics}

    def test_a_shortcut_in_the_home_needs_no_root_folder(self, config: Config) -> None:
        site = with_folders(config, [], [{"name": "Course", "path": "{home}/course"}])
        assert folders(site) == {"shortcuts": {"Course": "/home/a/alice/course"}}

    def test_repeated_slashes_do_not_matter(self, config: Config) -> None:
        site = with_folders(config, [{"path": "//"}], [{"name": "S", "path": "//scratch//{user}/"}])
        assert folders(site) == {"root_folder": "/", "shortcuts": {"S": "/scratch/alice"}}

    @pytest.mark.parametrize(
        ("roots", "shortcuts", "words"),
        [
            ([], [SCRATCH], "cannot open /scratch/{user} (Scratch), because no folder of"),
            ([{"path": "/scratches"}], [SCRATCH], "/scratch/{user} (Scratch)"),
            ([{"path": "scratch"}], [], "starts with / or {home}"),
            ([{"path": "/scratch/{group}"}], [], "only the placeholders {user} and {home}"),
            ([{"path": "/scratch/{user"}], [], "only the placeholders {user} and {home}"),
            ([{"path": "/"}], [SCRATCH | {"path": "/a/../b"}], "no part starts with a dot"),
            ([{"path": "/"}], [SCRATCH | {"path": "/a/.b"}], "no part starts with a dot"),
            ([{"path": "/"}], [SCRATCH | {"path": "/a\nb"}], "no control characters"),
            ([{"path": "/"}], [SCRATCH | {"name": ""}], "shortcuts.0.name"),
            ([{"path": "/"}], [SCRATCH | {"name": "  "}], "shortcuts.0.name"),
            ([], [{"name": "S", "path": "{home}s"}], "starts with / or {home}"),
            ([{"path": "/"}, {"path": "/a"}], [], "/a is never used"),
            ([{"path": "/"}], [{"path": "/scratch"}], "shortcuts.0.name"),
            ([{"path": "/", "group": "staff"}], [], "root_folders.0.group"),
            ([{"path": "/", "groups": "staff"}], [], "root_folders.0.groups"),
        ],
    )
    def test_wrong_folders_are_named(
        self, config: Config, roots: list[Any], shortcuts: list[Any], words: str
    ) -> None:
        with pytest.raises(ConfigError) as error:
            with_folders(config, roots, shortcuts)
        assert words in str(error.value)
