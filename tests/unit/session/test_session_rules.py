# SPDX-License-Identifier: BSD-3-Clause
"""The rules of a session."""

from __future__ import annotations

import pytest

from gridhub.clock import Change
from gridhub.session.rules import Rules, RulesError, read_rules
from watching import CONTENT, RULES


class TestRules:
    def test_the_brokers_rules_are_read(self) -> None:
        zone = (Change(0, 20700, "NPT"),)
        assert Rules(3600, (1800, 600), 1200, 300, 300, CONTENT["words"], zone) == RULES
        assert read_rules(CONTENT | {"run_time": None, "warnings": []}).run_time is None

    def test_the_rules_of_a_job_from_before_an_upgrade_are_read(self) -> None:
        words = {name: text for name, text in CONTENT["words"].items() if name != "left"}
        assert read_rules(CONTENT | {"words": words}).words == words
        without = {name: value for name, value in CONTENT.items() if name != "zone"}
        assert read_rules(without).zone == ()

    @pytest.mark.parametrize(
        "changes",
        [{name: wrong} for name in ("run_time", "idle_timeout", "idle_notice", "idle_report")
         for wrong in ("60", 60.0, True, -1, [60])]
        + [{name: None} for name in CONTENT if name != "run_time"]
        + [{"warnings": wrong} for wrong in (600, ["600"], [-1], [True], {"600": 1})]
        + [{"words": wrong} for wrong in ({}, {"idle": "x"}, [], "x")]
        + [{"words": CONTENT["words"] | {name: wrong}} for name in ("idle", "left")
         for wrong in ("", 4, None)]
        + [{"more": 1}, {"prologue_timeout": "60"}, {"gpus": {"gpu": "1"}}, {"gpus": [1]}]
        + [{"tcp_kernels": "xcpp"}, {"tcp_kernels": [1]}]
        + [{"root_folder": wrong} for wrong in ("", "scratch", None, 1)]
        + [{"shortcuts": wrong} for wrong in ([], {"S": "scratch"}, {"S": None}, {1: "/"})]
        + [{"zone": wrong} for wrong in ("CET", {}, [0, 3600, "CET"], [[0, "x", "CET"]],
                                         [[0, 3600]], [[0, 86400, "CET"]], [[0, 1e400, "CET"]])],
    )  # fmt: skip
    def test_anything_else_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(RulesError):
            read_rules(CONTENT | changes)

    @pytest.mark.parametrize("content", [None, [], "x", 4, {}])
    def test_content_that_is_not_rules_is_refused(self, content: object) -> None:
        with pytest.raises(RulesError):
            read_rules(content)

    @pytest.mark.parametrize("name", sorted(CONTENT.keys() - {"zone"}))
    def test_every_rule_is_required(self, name: str) -> None:
        with pytest.raises(RulesError):
            read_rules({key: value for key, value in CONTENT.items() if key != name})
