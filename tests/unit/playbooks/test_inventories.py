# SPDX-License-Identifier: BSD-3-Clause
"""The menus in this project's inventories, and the jobs that result from choices."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from folders import ROOT
from gridhub.contract import EXIT_NO_ENVIRONMENT
from gridhub.menu.file import VARIABLES, parse_menu
from gridhub.menu.form import render_form
from gridhub.menu.job import default_url, qsub_arguments, script_arguments
from gridhub.menu.kinds import ChoiceError
from gridhub.menu.menu import Menu
from gridhub.session.start_up import run_start_up
from job_script import render_job_script

GPU = {"gpu"}


def variables_of(inventory: str) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for path in sorted((ROOT / "inventories" / inventory / "group_vars/all").iterdir()):
        variables |= yaml.safe_load(path.read_text(encoding="utf-8"))
    return variables


def menu_of(inventory: str) -> Menu:
    variables = variables_of(inventory)
    return parse_menu(
        json.dumps({part: variables.get(name, []) for part, name in VARIABLES.items()}), inventory
    )


@pytest.mark.parametrize("inventory", ["demo", "example", "example_rich"])
def test_the_menu_is_valid(inventory: str) -> None:
    menu = menu_of(inventory)
    for groups in menu.people():
        assert render_form(menu, groups, {})
        qsub_arguments(menu, menu.choose({}, groups))


def documented() -> dict[str, Any]:
    """Return the examples of docs/menu.md as one menu."""
    text = (ROOT / "docs/menu.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {"items": []}
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        part = yaml.safe_load(block)
        if isinstance(part, list):
            found["items"] += part
        else:
            for key, variable in VARIABLES.items():
                found.setdefault(key, []).extend(part.get(variable, []))
    return found


class TestDocumentation:
    def test_its_examples_are_a_menu(self) -> None:
        found = documented()
        assert [len(found[key]) for key in VARIABLES] == [7, 2, 2]
        assert parse_menu(json.dumps(found))

    @pytest.mark.parametrize(
        ("raw", "groups"),
        [
            ({"memory": 3}, ()),
            ({"cores": 17}, ()),
            ({"queue": "root.q"}, GPU),
            ({"mail": "me"}, ()),
            ({"gpus": 1}, ()),
            ({"queue": "gpu.q"}, ()),
            ({"preset": "huge"}, ()),
        ],
    )
    def test_its_messages_are_what_people_read(
        self, raw: Mapping[str, object], groups: set[str]
    ) -> None:
        with pytest.raises(ChoiceError) as caught:
            parse_menu(json.dumps(documented())).choose(raw, groups)
        assert f"| {caught.value} |" in (ROOT / "docs/menu.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        "raw",
        [
            {"cores": 4, "memory": 8, "gpus": 2, "queue": "gpu.q", "run_time": 2},
            {"cores": 3, "memory": 8, "run_time": 1},
        ],
    )
    def test_its_arithmetic_is_right(self, raw: Mapping[str, object]) -> None:
        menu = parse_menu(json.dumps(documented()))
        arguments = qsub_arguments(menu, menu.choose(raw, GPU))
        assert f"| `{' '.join(arguments)}` |" in (ROOT / "docs/menu.md").read_text(encoding="utf-8")


class TestDemo:
    def test_everybody_has_two_presets_and_members_of_gpu_a_third(self) -> None:
        menu = menu_of("demo")
        labels = [[preset.label for preset in menu.presets_for(groups)] for groups in ((), GPU)]
        assert labels == [["Small", "Teaching"], ["Small", "Teaching", "GPU"]]

    def test_the_choice_of_its_tests_is_on_the_menu(self) -> None:
        choice = menu_of("demo").choose({"cores": 1, "memory": 1, "run_time": 1}, ())
        assert choice.values == {"cores": 1, "memory": 1, "run_time": 1}

    def test_memory_is_limited_for_each_core(self) -> None:
        menu = menu_of("demo")
        assert menu.choose({"cores": 2, "memory": 8}, ())
        with pytest.raises(ChoiceError, match="At most 4 GB for each CPU core"):
            menu.choose({"cores": 1, "memory": 8}, ())


class TestExampleRich:
    @pytest.fixture
    def menu(self) -> Menu:
        return menu_of("example_rich")

    @pytest.mark.parametrize(
        ("raw", "groups", "arguments", "software", "url"),
        [
            ({}, (), "-pe smp 1 -l rmem=2097152K,h_rt=14400", [], "/lab"),
            (
                {"cores": "4", "memory": "8", "run_time": "8", "interface": "notebook"},
                (),
                "-pe smp 4 -l rmem=2097152K,h_rt=28800",
                [],
                "/tree",
            ),
            (
                {"project": "climate", "mail": "a.b@phys.example.org", "processor": "rome"},
                {"climate-guests"},
                "-P climate -m ea -M a.b@phys.example.org -pe smp 1"
                " -l rmem=2097152K,cpu_type=rome,h_rt=14400",
                [],
                "/lab",
            ),
            (
                {"cores": 40, "parallel_environment": "mpi", "memory": 768, "software": "conda"},
                (),
                "-pe mpi 40 -l rmem=20132660K,h_rt=14400",
                ["conda"],
                "/lab",
            ),
            (
                {"preset": "gpu", "cores": "40", "run_time": "8"},
                GPU,
                "-q gpu.q -pe smp 1 -l rmem=16777216K,gpu=1,h_rt=14400",
                ["pytorch"],
                "/lab",
            ),
            (
                {"queue": "gpu.q", "gpus": 4, "cores": 2, "memory": 3},
                GPU,
                "-q gpu.q -pe smp 2 -l rmem=1572864K,gpu=2,h_rt=14400",
                [],
                "/lab",
            ),
            (
                {"preset": "course", "mail": ""},
                (),
                "-P teaching -q interactive.q -pe smp 1 -l rmem=4194304K,h_rt=7200",
                [],
                "/tree",
            ),
        ],
    )
    def test_choices_become_arguments_of_the_job(
        self,
        menu: Menu,
        raw: Mapping[str, object],
        groups: set[str],
        arguments: str,
        software: list[str],
        url: str,
    ) -> None:
        choice = menu.choose(raw, groups)
        assert qsub_arguments(menu, choice) == arguments.split()
        assert script_arguments(menu, choice) == software
        assert default_url(menu, choice) == url

    @pytest.mark.parametrize(
        ("raw", "item", "words"),
        [
            ({"memory": 33}, "memory", "At most 32 GB for each CPU core"),
            ({"memory": 769, "cores": 40}, "memory", "choose from 1 to 768 GB"),
            ({"gpus": 1}, "queue", "GPUs are in the GPU queue only"),
            ({"queue": "gpu.q"}, "gpus", "Choose at least one, or another queue"),
            ({"queue": "gpu.q", "gpus": 1, "run_time": 8}, "run_time", "at most 4 hours"),
            ({"queue": "gpu.q", "gpus": 1, "cores": 2}, "gpus", "choose a multiple of 2"),
            ({"parallel_environment": "mpi"}, "parallel_environment", "at least 2 cores for MPI"),
            ({"mail": "a@example.com"}, "mail", "like “j.smith@example.org”"),
            ({"mail": "a@example.org,b@example.org"}, "mail", "like “j.smith@example.org”"),
            ({"project": "genomics"}, "project", "only members of genomics may"),
            ({"run_time": 96}, "run_time", "choose 1, 2, 4 or 8 hours"),
            ({"cores": 41}, "cores", "choose from 1 to 40"),
        ],
    )
    def test_a_choice_that_does_not_fit_is_refused_at_its_field(
        self, menu: Menu, raw: Mapping[str, object], item: str, words: str
    ) -> None:
        with pytest.raises(ChoiceError, match=words) as caught:
            menu.choose(raw, GPU)
        assert caught.value.item == item

    def test_people_who_may_not_use_gpus_do_not_see_them(self, menu: Menu) -> None:
        form = render_form(menu, (), {})
        for words in ("gpu.q", 'name="gpus"', "pytorch", "One GPU", "Genomics"):
            assert words not in form
            assert words in render_form(menu, {"gpu", "genomics"}, {})

    def test_prologues_are_not_in_the_form(self, menu: Menu) -> None:
        assert "module load" not in render_form(menu, GPU, {"software": "conda"})


#: A program that shows its arguments and its environment.
SHOW = 'printf "%s\\n" "$*"\nenv\n'


class TestJobScript:
    """A site's job script, run as Grid Engine would run it."""

    SESSION = "0123456789abcdef" * 2

    def run(
        self, folder: Path, menu: list[dict[str, Any]], *arguments: str, debugger: object = False
    ) -> Any:
        python = folder / "current/env/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{SHOW}", encoding="utf-8")
        python.chmod(0o755)
        return self.run_in(folder, menu, *arguments, debugger=debugger)

    def run_in(
        self, folder: Path, menu: list[dict[str, Any]], *arguments: str, debugger: object = False
    ) -> Any:
        script = folder / "session.sh"
        owner = pwd.getpwuid(os.getuid()).pw_name
        script.write_text(
            render_job_script(menu, "export STEPS=site", debugger, folder, owner), encoding="utf-8"
        )
        checked = subprocess.run(["/bin/bash", "-n", script], check=False)
        assert checked.returncode == 0
        return subprocess.run(
            ["/bin/bash", script, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LD_OWN": "lib", "LD_PRELOAD": "", "OTHER": "1"},
        )

    def menu(self) -> list[dict[str, Any]]:
        menu: list[dict[str, Any]] = variables_of("example_rich")["jupyterhub_resource_menu"]
        software = next(item for item in menu if item["request"]["kind"] == "environment")
        for option in software["options"]:
            option["prologue"] = f"STEPS=$STEPS,{option['value']}"
        software["options"].append({"value": "bare", "label": "Nothing to load"})
        return menu

    @pytest.mark.parametrize("software", ["", "conda"])
    def test_it_starts_the_session_before_any_line_of_the_site(
        self, tmp_path: Path, software: str
    ) -> None:
        ran = self.run(tmp_path, self.menu(), self.SESSION, *filter(None, [software]))
        starter = (
            f"-sE {tmp_path}/current/sge_session.py --script {tmp_path}/session.sh "
            f"--software {software} {self.SESSION}"
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        first, *variables = ran.stdout.splitlines()
        assert first == starter
        # Variables that make the server load other code are hidden from it.
        assert not [each for each in variables if each.startswith(("LD_", "STEPS"))]
        assert {"GRIDHUB_JOB_LD_OWN=lib", "GRIDHUB_JOB_LD_PRELOAD=", "OTHER=1"} <= set(variables)

    def refusal(self, folder: Path) -> str:
        """Return why the job cannot use the environment in a folder."""
        ran = self.run_in(folder, [], self.SESSION)
        assert (ran.returncode, ran.stdout) == (EXIT_NO_ENVIRONMENT, "")
        heading = f"{socket.gethostname()} cannot use the notebook environment {folder}: "
        assert ran.stderr.startswith(heading)
        return str(ran.stderr.removeprefix(heading)).rstrip()

    def test_a_worker_without_the_environment_ends_the_job_with_words(self, tmp_path: Path) -> None:
        assert self.refusal(tmp_path) == f"{tmp_path}/current is missing or cannot be read."

    def test_a_worker_without_its_python_ends_the_job_with_words(self, tmp_path: Path) -> None:
        programs = tmp_path / "current/env/bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to("/no/python3.11")
        assert self.refusal(tmp_path) == "its Python, /no/python3.11, is missing."

    @pytest.mark.parametrize("place", [".", "current"])
    def test_a_folder_to_which_everyone_may_write_is_not_used(
        self, tmp_path: Path, place: str
    ) -> None:
        (tmp_path / "current/env/bin").mkdir(parents=True)
        folder = (tmp_path / place).resolve()
        folder.chmod(0o757)
        assert self.refusal(tmp_path) == f"every account may write to {folder}."

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
    def test_a_folder_of_another_account_is_not_used(self, tmp_path: Path) -> None:
        (tmp_path / "releases/own").mkdir(parents=True)
        (tmp_path / "current").symlink_to("releases/own")
        os.chown(tmp_path / "releases", 65534, 65534)
        assert self.refusal(tmp_path) == f"{tmp_path}/releases belongs to nobody, not to root."

    @pytest.mark.parametrize(
        ("software", "steps"),
        [
            ("", "site"),
            ("conda", "site,conda"),
            ("pytorch", "site,pytorch"),
            ("bare", "site"),
        ],
    )
    def test_it_loads_the_chosen_software(self, tmp_path: Path, software: str, steps: str) -> None:
        self.run(tmp_path, self.menu(), self.SESSION)
        result = run_start_up(str(tmp_path / "session.sh"), {}, software, 20.0)
        assert (result.stopped, result.environment["STEPS"]) == (None, steps)

    @pytest.mark.parametrize(
        ("debugger", "option"),
        [(False, ""), ("false", ""), (True, " --debugger"), ("true", " --debugger")],
    )
    def test_it_has_a_debugger_only_if_the_site_enables_it(
        self, tmp_path: Path, debugger: object, option: str
    ) -> None:
        ran = self.run(tmp_path, self.menu(), self.SESSION, "conda", debugger=debugger)
        assert f"sge_session.py{option} --script" in ran.stdout

    @pytest.mark.parametrize("name", ["cond", "conda ", "*", "conda|pytorch", "?onda", "$(id)"])
    def test_it_accepts_no_other_name(
        self, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.run(tmp_path, self.menu(), self.SESSION)
        result = run_start_up(str(tmp_path / "session.sh"), {}, name, 20.0)
        assert (result.stopped and result.stopped.status) == 1
        assert result.environment["STEPS"] == "site"
        assert f"no software environment {name}" in capfd.readouterr().err
