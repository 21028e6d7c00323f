# SPDX-License-Identifier: BSD-3-Clause
"""How the menu and the inventory are compared with Grid Engine's configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gridhub.menu.file import parse_menu
from gridhub.menu.menu import Menu
from gridhub.site.cluster import (
    Cluster,
    cluster_notes,
    cluster_problems,
    parse_hosts,
    request_problems,
    requests_of,
)
from menus import CORES, MEMORY

RUN_TIME = {
    "name": "run_time",
    "label": "Run time",
    "unit": "hours",
    "choices": [1, 2],
    "default": 1,
    "request": {"kind": "run_time", "complex": "h_rt"},
}
QUEUE = {
    "name": "queue",
    "label": "Queue",
    "options": [{"value": "", "label": "any"}, {"value": "fast.q", "label": "fast"}],
    "default": "",
    "request": {"kind": "queue"},
}
PROJECT = {
    "name": "project",
    "label": "Project",
    "options": [{"value": "teaching", "label": "Teaching"}],
    "default": "teaching",
    "request": {"kind": "project"},
}


def menu(*items: dict[str, Any], **parts: Any) -> Menu:
    content = {"items": items or (CORES, MEMORY, RUN_TIME, QUEUE, PROJECT), **parts}
    return parse_menu(json.dumps(content).encode(), "the menu")


def a_complex(**changes: str) -> dict[str, str]:
    return {
        "shortcut": "x",
        "type": "MEMORY",
        "relop": "<=",
        "requestable": "YES",
        "consumable": "YES",
        "default": "0",
        "urgency": "0",
    } | changes


CLUSTER = Cluster(
    complexes={
        "h_vmem": a_complex(),
        "h_rt": a_complex(type="TIME", consumable="NO"),
    },
    environments={"smp": {"allocation_rule": "$pe_slots"}},
    queues={"all.q": {"pe_list": "make smp"}, "fast.q": {"pe_list": "NONE"}},
    projects=["teaching"],
    hosts=["W1", "w2.example.org"],
    settings={"jsv_url": "none"},
    scheduler={"schedd_job_info": "true", "flush_submit_sec": "1"},
    files={},
)
WORKERS = ["w1", "w2"]


def problems(cluster: Cluster = CLUSTER, *arguments: str, items: Any = ()) -> list[str]:
    return list(cluster_problems(menu(*items), WORKERS, arguments, cluster))


def test_a_cluster_that_fits_has_no_problem() -> None:
    assert problems() == []
    assert list(cluster_notes(CLUSTER, [{"name": "x", "rc": 0, "words": ""}])) == []


def test_what_is_not_known_is_no_problem() -> None:
    unknown = Cluster(None, None, None, None, None, {}, {}, {})
    assert problems(unknown, "-q", "nosuch.q", "-P", "nosuch") == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"complexes": {"h_rt": a_complex(type="TIME")}}, "complex h_vmem does not exist"),
        ({"complexes": CLUSTER.complexes | {"h_vmem": a_complex(consumable="JOB")}}, "'per: job'"),
        ({"complexes": CLUSTER.complexes | {"h_vmem": a_complex(type="INT")}}, "has the type INT"),
        (
            {"complexes": CLUSTER.complexes | {"h_rt": a_complex(type="TIME", requestable="NO")}},
            "cannot be requested",
        ),
        ({"environments": {}}, "parallel environment smp does not exist; the cluster has none"),
        ({"environments": {"smp": {"allocation_rule": "$fill_up"}}}, "allocation_rule $fill_up"),
        (
            {"queues": {"all.q": {"pe_list": "make"}, "fast.q": {}}},
            "no queue has the parallel environment smp",
        ),
        ({"queues": {"all.q": {"pe_list": "smp"}}}, "queue fast.q does not exist"),
        ({"projects": ["physics"]}, "project teaching does not exist; the cluster has physics"),
        ({"hosts": ["w1"]}, "no execution host w2"),
        ({"hosts": ["w1", "w2", "w3"]}, "Grid Engine may start sessions on w3"),
        (
            {"files": {"/c/sge_request": "-l a\n-sync y\n"}},
            "/c/sge_request, line 2: no session can have -sync y",
        ),
        ({"files": {"/c/sge_qstat": "-q all.q\n"}}, "/c/sge_qstat has -q"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], words: str) -> None:
    found = problems(CLUSTER._replace(**changes))
    assert any(words in each for each in found), found


def test_a_complex_may_be_requested_by_its_shortcut() -> None:
    short = {"name": "m", "label": "M", "unit": "GB", "choices": [1], "default": 1}
    short |= {"request": {"kind": "memory", "complex": "mem", "per": "slot"}}
    cluster = CLUSTER._replace(complexes={"memory_free": a_complex(shortcut="mem")})
    assert problems(cluster, items=(short,)) == []


def test_a_parallel_environment_of_some_hosts_counts() -> None:
    queues = {"all.q": {"pe_list": "make,[w1=make smp]"}, "fast.q": {}}
    assert problems(CLUSTER._replace(queues=queues)) == []


def test_the_sites_arguments_of_qsub_must_name_what_exists() -> None:
    found = problems(CLUSTER, "-q", "all.q@w1,slow.q", "-P", "nosuch", "-pe", "mpi", "2")
    assert [each.split(";")[0] for each in found] == [
        "jupyterhub_qsub_arguments: the queue slow.q does not exist",
        "jupyterhub_qsub_arguments: the project nosuch does not exist",
        "jupyterhub_qsub_arguments: the parallel environment mpi does not exist",
    ]


def test_other_hosts_of_the_cluster_are_no_problem_for_sessions_of_one_queue() -> None:
    cluster = CLUSTER._replace(hosts=["w1", "w2", "w3"])
    assert problems(cluster, "-q", "all.q") == []


def test_settings_that_users_notice_are_notes() -> None:
    cluster = CLUSTER._replace(
        settings={"jsv_url": "/opt/jsv.sh"},
        scheduler={
            "schedd_job_info": "false",
            "flush_submit_sec": "0",
            "schedule_interval": "0:2:0",
        },
    )
    notes = list(cluster_notes(cluster, [{"name": "x", "rc": 1, "words": "runuser: no such user"}]))
    for words in ("/opt/jsv.sh", "schedd_job_info", "wait up to 0:2:0", "runuser: no such user"):
        assert any(words in each for each in notes)
    assert "was not checked" in next(cluster_notes(CLUSTER, []))


def test_a_note_names_what_a_submit_host_cannot_see() -> None:
    hidden = CLUSTER._replace(complexes=None, environments=None, queues=None, projects=None)
    (note,) = cluster_notes(hidden, [{"name": "x", "rc": 0, "words": ""}])
    assert "not compared" in note
    assert "qconf -ah" in note


def test_qhost_lists_the_execution_hosts() -> None:
    text = (
        "HOSTNAME                ARCH         NCPU NSOC\n"
        "----------------------------------------------\n"
        "global                  -               -    -\n"
        "exec1                   lx-amd64        2    1\n"
    )
    assert parse_hosts(text) == ["exec1"]


class TestRequests:
    def test_each_choice_of_the_menu_is_tried(self) -> None:
        found = dict(requests_of(menu(CORES, RUN_TIME)))
        assert found["cores: 8"] == ["-pe", "smp", "8", "-l", "h_rt=3600"]
        assert found["run_time: 2 hours"][-1] == "h_rt=7200"
        assert len(found) == 5 + 2

    def test_a_rule_of_the_menu_leaves_no_choice_out(self) -> None:
        limit = {"rule": "memory <= 8 * cores", "item": "memory", "message": "x"}
        found = dict(requests_of(menu(CORES, MEMORY, limits=[limit])))
        # Only what the rule asks for is changed, and the name states it.
        assert found["memory: 64 GB (with cores: 8)"][:3] == ["-pe", "smp", "8"]
        longer = dict(requests_of(menu(CORES, MEMORY, RUN_TIME, limits=[limit])))
        assert "h_rt=3600" in longer["memory: 64 GB (with cores: 8)"][-1]

    def test_a_range_is_tried_at_its_ends_and_its_default(self) -> None:
        cores = CORES | {"range": {"minimum": 1, "maximum": 12, "step": 4}, "default": 5}
        del cores["choices"]
        assert [name for name, _ in requests_of(menu(cores))] == [
            f"cores: {number}" for number in (1, 5, 9)
        ]

    def test_the_default_of_a_text_item_is_tried(self) -> None:
        text = {"pattern": "[a-z]+", "example": "teaching"}
        project = {key: value for key, value in PROJECT.items() if key != "options"}
        found = dict(requests_of(menu(CORES, project | {"text": text, "default": "guests"})))
        assert found["project: guests"][-2:] == ["-P", "guests"]
        nothing = dict(requests_of(menu(CORES, project | {"text": text, "default": ""})))
        assert not [name for name in nothing if name.startswith("project")]

    def test_each_preset_is_tried_as_a_whole(self) -> None:
        large = {"name": "large", "label": "Large", "choice": {"cores": 8, "memory": 64}}
        limit = {"rule": "memory <= 8 * cores", "item": "memory", "message": "x"}
        found = dict(requests_of(menu(CORES, MEMORY, presets=[large], limits=[limit])))
        assert found["preset 'large'"][:3] == ["-pe", "smp", "8"]
        refused = [{"name": "preset 'large'", "rc": 1, "words": "Unable to run job: too large"}]
        assert list(request_problems(refused)) == [
            "jupyterhub_resource_menu, jupyterhub_resource_presets: Grid Engine would refuse "
            "preset 'large': Unable to run job: too large"
        ]

    def test_a_refusal_of_every_choice_is_not_the_menus_alone(self) -> None:
        words = "Unable to run job: job rejected: no project assigned to job"
        results = [{"name": f"cores: {cores}", "rc": 1, "words": words} for cores in (1, 2)]
        assert list(request_problems(results)) == [
            "jupyterhub_qsub_arguments or jupyterhub_resource_menu: Grid Engine would refuse every "
            f"choice: {words}"
        ]

    def test_refusals_are_named_with_grid_engines_reason(self) -> None:
        words = (
            'Unable to run job: Job 17{} cannot run in PE "smp"\n'
            "verification: no suitable queues\nExiting.\n"
        )
        results = [
            {"name": "cores: 8", "rc": 1, "words": words.format(4)},
            {"name": "cores: 16", "rc": 1, "words": words.format(5)},
            {"name": "cores: 1", "rc": 0, "words": "verification: found suitable queue(s)"},
            {"name": "gpus: 1", "rc": 1, "words": "error: commlib error: got select error"},
            {"name": "gpus: 2", "rc": 127, "words": "runuser: not found"},
        ]
        assert list(request_problems(results)) == [
            "jupyterhub_resource_menu: Grid Engine would refuse cores: 8, cores: 16: "
            'Unable to run job: the job cannot run in PE "smp"'
        ]
