# SPDX-License-Identifier: BSD-3-Clause
"""The broker's settings."""

from __future__ import annotations

import json
import re

import pytest
from pydantic import ValidationError

from gridhub.broker.config import Config, ConfigError, parse_config


class TestConfig:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("minimum_uid", 0),
            ("timeout", 0),
            ("timeout", -1),
            ("ports", (80, 40999)),
            ("ports", (40000, 65536)),
            ("ports", (40000,)),
            ("no_such_setting", 1),
            ("sge_ports", {"SGE_QMASTER_PORT": 0}),
            ("sge_ports", {"LD_PRELOAD": 6444}),
        ],
    )
    def test_an_unsafe_configuration_is_refused(
        self, config: Config, name: str, value: object
    ) -> None:
        with pytest.raises(ValidationError):
            Config.model_validate(config.model_dump() | {name: value})

    def test_every_command_gets_the_ports_of_the_site(self, config: Config) -> None:
        ports = {"SGE_QMASTER_PORT": 536, "SGE_EXECD_PORT": 537}
        of_the_site = Config.model_validate(config.model_dump() | {"sge_ports": ports})
        assert of_the_site.grid.environment()["SGE_QMASTER_PORT"] == "536"
        assert of_the_site.grid.environment()["SGE_EXECD_PORT"] == "537"
        assert "SGE_QMASTER_PORT" not in config.grid.environment()

    def test_only_named_users_and_groups_are_allowed(self, config: Config) -> None:
        fields = config.model_dump(exclude={"allowed_users", "allowed_groups"})
        bare = Config.model_validate(fields)
        assert not bare.allowed_users
        assert not bare.allowed_groups


class TestCheckedConfig:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["-q", "a.q", "-P", "p", "-l", "x=1", "-pe", "smp", "1", "-p", "-10", "-js", "5"],
            ["-ac", "site=1", "-v", "A=1", "-M", "a@b", "-m", "e", "-notify", "-R", "y"],
            ["-now", "n", "-shell", "y", "-b", "n", "-r", "n", "-j", "y", "-V"],
            ["-soft", "-l", "fast=1", "-hard", "-ar", "5", "-binding", "pe", "linear:1"],
        ],
    )
    def test_a_site_may_add_arguments_of_qsub(self, config: Config, arguments: list[str]) -> None:
        content = json.dumps(config.model_dump(mode="json") | {"qsub_arguments": arguments})
        assert list(parse_config(content.encode()).qsub_arguments) == arguments

    def test_a_valid_configuration_is_accepted(self, config: Config) -> None:
        assert parse_config(config.model_dump_json().encode()) == config

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"ports": [41000, 40000]}, "the first port, 41000, is above the last, 40000"),
            ({"ports": [40000]}, "ports.1: "),
            ({"ports": [80, 90]}, "ports.0: "),
            ({"minimum_uid": 0}, "minimum_uid: "),
            ({"run_time_warnings": [10, -1]}, "run_time_warnings.1: "),
            ({"run_time_warnings": ["10"]}, "run_time_warnings.0: "),
            ({"idle_timeout": -1}, "idle_timeout: "),
            ({"idle_timeout": True}, "idle_timeout: "),
            (
                {"idle_timeout": 10, "idle_notice": 10},
                "jupyterhub_idle_notice is 10 minutes; it must be less than jupyterhub_idle_t",
            ),
            ({"colour": "red"}, "colour: "),
            ({"qsub_arguments": ["-q", "a.q", "-sync", "y"]}, "a session cannot have -sync y;"),
            ({"qsub_arguments": ["-t", "1-3"]}, "a session cannot have -t 1-3;"),
            ({"qsub_arguments": ["-N", "x", "-now", "y"]}, "a session cannot have -N x, -now y;"),
            ({"qsub_arguments": ["-P", "p", "script.sh"]}, "a session cannot have script.sh;"),
            ({"qsub_arguments": ["-q jupyter.q"]}, "a session cannot have -q jupyter.q;"),
            ({"qsub_arguments": ["-P", "p", "-q"]}, "a session cannot have -q;"),
            ({"qsub_arguments": ["-t", "1", "-h", "-inherit"]}, "have -t 1, -h, -inherit;"),
            ({"qsub_arguments": ["-v", "A=1,LD_PRELOAD=/x"]}, "have -v A=1,LD_PRELOAD=/x;"),
        ],
    )
    def test_a_wrong_value_is_named(
        self,
        config: Config,
        wrong: dict[str, object],
        words: str,
    ) -> None:
        content = json.dumps(config.model_dump(mode="json") | wrong).encode()
        with pytest.raises(ConfigError, match=re.escape(words)):
            parse_config(content)
