# SPDX-License-Identifier: BSD-3-Clause
"""Variables of the inventory whose names are mistyped."""

from __future__ import annotations

from gridhub.site.inventory import name_problems

KNOWN = ["jupyterhub_database_ca", "jupyterhub_idle_timeout"]


def test_a_mistyped_variable_is_named_with_the_right_one() -> None:
    [problem] = name_problems({"hub": {"jupyterhub_idle_timout": 5}}, KNOWN)
    assert "jupyterhub_idle_timout" in str(problem) and KNOWN[1] in str(problem)


def test_a_variable_that_a_role_has_left_is_no_mistake() -> None:
    """A restore on a new host runs roles before it checks the inventory."""
    assert list(name_problems({"hub": {"__jupyterhub_database_now": {}}}, KNOWN)) == []
    assert list(name_problems({"hub": {"jupyterhub_database_now": {}}}, KNOWN))
    assert list(name_problems({"hub": {"python_env_switched": {}}}, ["python_env_switch"])) == []
