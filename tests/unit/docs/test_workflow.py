# SPDX-License-Identifier: BSD-3-Clause
"""The workflow of the forge runs what the Makefile has, with few rights and fixed actions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from folders import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> Any:
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


def test_it_may_only_read(workflow: Any) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert "secrets." not in str(workflow)


def test_each_action_is_fixed_to_a_commit(workflow: Any) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each) for each in used)


def test_each_job_has_a_time_limit_and_calls_targets_that_exist(workflow: Any) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            for target in step.get("run", "").partition("make ")[2].split():
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_pushes_are_linted_and_the_night_tests_everything(workflow: Any) -> None:
    assert {"push", "pull_request", "schedule"} <= set(workflow["on"])
    runs = {name: job["steps"][-1]["run"] for name, job in workflow["jobs"].items()}
    assert "make lint unit" in runs["quick"] and "make test" in runs["nightly"]
