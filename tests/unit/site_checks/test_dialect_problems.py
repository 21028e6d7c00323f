# SPDX-License-Identifier: BSD-3-Clause
"""What ``validate.yml`` reports about the family of Grid Engines.

The answers of Open Cluster Scheduler 9.1.4 and 9.0.13 were recorded (``data/ocs``).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from folders import OCS
from gridhub.grid.dialect import Dialect, read_product
from gridhub.menu.file import parse_menu
from gridhub.site.dialect import (
    NO_ANSWER,
    dialect_notes,
    dialect_problems,
    managed_problems,
    no_answer,
)
from inventories import GROUPS, PLUGIN, problems
from menus import CORES, MEMORY

NEWER, OLDER = ((OCS / version / "qstat_help.out").read_text() for version in ("9.1.4", "9.0.13"))
SGE = "SGE 8.1.9\nusage: qstat [options]\n"


@pytest.mark.parametrize(
    ("shown", "line", "dialect"),
    [
        (NEWER, "OCS 9.1.4", Dialect.OCS),
        (OLDER, "OCS 9.0.13", Dialect.OCS),
        (SGE, "SGE 8.1.9", Dialect.SGE),
        # Not seen.
        ("GCS 9.1.0\n", "GCS 9.1.0", Dialect.OCS),
        ("UGE 8.6.4", "UGE 8.6.4", Dialect.AGE),
        ("AGE 2022.1.0", "AGE 2022.1.0", Dialect.AGE),
        ("Altair Grid Engine 2023", "Altair Grid Engine 2023", Dialect.AGE),
        ("GE 6.2u5", "GE 6.2u5", Dialect.SGE),
        ("SLURM 23", "SLURM 23", None),
        ("GENERAL 1", "GENERAL 1", None),
        ("", "", None),
    ],
)
def test_the_first_line_of_the_help_names_the_product(
    shown: str, line: str, dialect: Dialect | None
) -> None:
    assert read_product(shown) == (line, dialect)


def test_another_dialect_than_the_clusters_is_a_problem() -> None:
    (problem,) = dialect_problems(Dialect.SGE, NEWER)
    assert "sge_common_dialect is sge" in problem
    assert "qstat -help names 'OCS 9.1.4': set sge_common_dialect: ocs" in problem
    (problem,) = dialect_problems(Dialect.OCS, SGE)
    assert "set sge_common_dialect: sge" in problem
    for dialect, shown in ((Dialect.OCS, OLDER), (Dialect.SGE, SGE), (Dialect.SGE, "?")):
        assert list(dialect_problems(dialect, shown)) == []


def test_clients_that_hang_may_be_those_of_another_grid_engine() -> None:
    hang = {"rc": NO_ANSWER, "err": "no answer within 10 s"}
    words = no_answer("hub", Dialect.OCS, SGE, hang)
    assert "no answer within 10 s" in words
    assert "Commands of another Grid Engine get no answer at all" in words
    assert "These are of SGE 8.1.9, and sge_common_dialect is ocs" in words
    assert "another Grid Engine" not in no_answer("hub", Dialect.OCS, SGE, hang | {"rc": 1})


def test_a_cluster_that_gridhub_installs_is_of_8_1_9() -> None:
    assert list(managed_problems("sge")) == list(managed_problems(None)) == []
    (problem,) = managed_problems("ocs")
    assert "GridHub installs Son of Grid Engine (8.1.9) or a fork of it there" in problem


MENU = parse_menu(json.dumps({"items": [CORES, MEMORY]}).encode(), "the menu")
TRUE = {"schedd_job_info": "true"}


@pytest.mark.parametrize(
    ("dialect", "shown", "settings", "scheduler", "words"),
    [
        (Dialect.OCS, NEWER, {}, TRUE, ["on workers with systemd, OCS 9.1.4 limits"]),
        (Dialect.OCS, NEWER, {"execd_params": "NONE"}, TRUE, ["ENABLE_SYSTEMD=FALSE"]),
        (Dialect.OCS, NEWER, {"execd_params": "A=1,ENABLE_SYSTEMD=FALSE"}, TRUE, []),
        (Dialect.OCS, OLDER, {}, TRUE, []),
        (Dialect.OCS, "GCS 9.0.2", {}, TRUE, ["must see the jobs of all users"]),
        (Dialect.OCS, OLDER, {}, {}, ["gives no reasons unless schedd_job_info is true"]),
        (Dialect.SGE, SGE, {}, {}, []),
        (Dialect.SGE, "XGE 1.0", {}, TRUE, ["'XGE 1.0', which GridHub does not know"]),
        (Dialect.AGE, "AGE 2022", {}, TRUE, ["never tried with GridHub"]),
    ],
)
def test_what_may_surprise_is_a_note(
    dialect: Dialect,
    shown: str,
    settings: dict[str, str],
    scheduler: dict[str, str],
    words: list[str],
) -> None:
    notes = list(dialect_notes(dialect, shown, MENU, settings, scheduler))
    assert len(notes) == len(words), notes
    assert all(word in note for word, note in zip(words, notes, strict=True))


def recorded(name: str) -> str:
    return (OCS / "9.1.4" / f"{name}.out").read_text(encoding="utf-8")


def answers(**changes: Any) -> dict[str, Any]:
    """Return what the module ``site_facts`` would collect from a host of Open Cluster Scheduler."""
    return {
        "qstat": {"rc": 0, "out": "", "err": ""},
        "help": NEWER,
        "complexes": recorded("qconf_sc"),
        "environments": {"smp": recorded("qconf_sp_smp")},
        "queues": {"all.q": recorded("qconf_sq_all.q")},
        "projects": None,  # "no project list defined"
        "global": recorded("qconf_sconf"),
        "scheduler": recorded("qconf_ssconf"),
        "hosts": recorded("qhost"),
        "files": {},
        "requests": [{"name": "memory: 1 GB", "rc": 0, "words": recorded("verify_v_possible")}],
    } | changes


def compare(found: dict[str, Any], **variables: Any) -> tuple[list[str], list[str]]:
    values = {
        "jupyterhub_resource_menu": [CORES, MEMORY],
        "sge_common_dialect": "ocs",
    } | variables
    wrong, notes = PLUGIN._grid_problems("hub", values, ["ocs1"], found)
    return wrong, notes


def test_recorded_answers_of_open_cluster_scheduler_fit_the_inventory() -> None:
    wrong, notes = compare(answers())
    assert wrong == []
    # As it is installed: no reasons, and jobs in systemd's scopes.
    assert [note.partition(":")[0] for note in notes] == [
        "Pages cannot show why a session waits",
        "jupyterhub_resource_menu, item 'memory'",
    ]


def test_recorded_refusals_of_open_cluster_scheduler_are_problems() -> None:
    words = (OCS / "9.1.4/verify_v_impossible_gpu.err").read_text(encoding="utf-8")
    requests = [{"name": "gpus: 9", "rc": 1, "words": words}]
    (problem,) = compare(answers(requests=requests))[0]
    assert "would refuse gpus: 9: Unable to run job: the job (-l gpu=9) cannot run at host" in (
        problem
    )


def test_the_default_dialect_is_compared_too() -> None:
    for variables in ({}, {"sge_common_dialect": "sge"}, {"sge_common_dialect": None}):
        found = PLUGIN._grid_problems(
            "hub",
            {"jupyterhub_resource_menu": [CORES, MEMORY]} | variables,
            ["ocs1"],
            answers(),
        )
        assert any("set sge_common_dialect: ocs" in each for each in found[0])
    hang = {"rc": NO_ANSWER, "out": "", "err": "no answer within 10 s"}
    wrong, notes = compare(answers(qstat=hang, help=SGE))
    assert [each.partition(" ")[0] for each in wrong] == ["sge_common_dialect", "hub"]
    assert notes == []


def test_a_complex_that_is_counted_for_each_host_is_one_for_each_job() -> None:
    gpus = {
        "name": "gpus",
        "label": "GPUs",
        "choices": [0, 1, 2],
        "default": 0,
        "request": {"kind": "count", "complex": "accel", "per": "job"},
    }
    items = {"jupyterhub_resource_menu": [CORES, MEMORY, gpus]}
    assert compare(answers(), **items)[0] == []
    gpus["request"] = {"kind": "count", "complex": "accel", "per": "slot"}
    (problem,) = compare(answers(), **items)[0]
    assert "complex accel has consumable HOST, so the item needs 'per: job'" in problem


def test_the_inventory_names_a_dialect_that_exists() -> None:
    assert problems(sge_common_dialect="ocs") == []
    (problem,) = problems(sge_common_dialect="slurm")
    assert "sge_common_dialect" in problem
    managed = GROUPS | {"sge_qmaster": ["w1"]}
    (problem,) = problems(managed, sge_common_dialect="ocs")
    assert "has a host in sge_qmaster" in problem
