"""The hub's configuration as the role writes it, loaded as the hub would load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined
from traitlets.config import Config

import sge_idle

ROLE = Path(__file__).resolve().parents[2] / "roles/jupyterhub"


def load(name: str) -> Any:
    return yaml.safe_load((ROLE / name).read_text(encoding="utf-8"))


def rendered(**variables: object) -> Config:
    """Return the configuration of a site that sets these variables and no others."""
    environment = Environment(trim_blocks=True, autoescape=False, undefined=StrictUndefined)
    environment.filters |= {"to_json": json.dumps, "comment": lambda words: f"# {words}"}
    text = (ROLE / "templates/jupyterhub_config.py.j2").read_text(encoding="utf-8")
    known = load("defaults/main.yml") | load("vars/main.yml") | variables
    report = environment.from_string(known["__jupyterhub_idle_report"]).render(known)
    known["__jupyterhub_idle_report"] = report
    elsewhere = {
        "ansible_managed": "managed",
        "sge_common_root": "/sge",
        "sge_common_cell": "default",
        "sge_common_bin_dir": "/sge/bin",
    }
    config = Config()
    source = environment.from_string(text).render(known | elsewhere)
    exec(compile(source, "jupyterhub_config.py", "exec"), {"get_config": lambda: config})
    return config


def test_by_default_nothing_is_ended_as_idle() -> None:
    config = rendered()
    assert "services" not in config.JupyterHub
    assert "load_roles" not in config.JupyterHub


def test_the_culler_may_do_what_it_needs_and_no_more() -> None:
    config = rendered(jupyterhub_idle_timeout=90)
    (service,), (role,) = config.JupyterHub.services, config.JupyterHub.load_roles
    assert service.keys() == {"name", "command"}
    assert service["name"] == sge_idle.SERVICE
    assert role["services"] == [sge_idle.SERVICE]
    assert role["scopes"] == [
        "list:users",
        "read:users:activity",
        "read:servers",
        "delete:servers",
    ]


@pytest.mark.parametrize(
    ("minutes", "every", "report"), [(1, 15, 15), (4, 60, 60), (20, 60, 300), (600, 60, 300)]
)
def test_hub_and_culler_go_by_the_same_timeout(minutes: int, every: int, report: int) -> None:
    config = rendered(jupyterhub_idle_timeout=minutes)
    command = config.JupyterHub.services[0]["command"]
    assert f"--timeout={minutes * 60}" in command
    assert f"--cull-every={every}" in command
    rule = config.JupyterHub.tornado_settings[sge_idle.SETTING]
    assert rule == {"timeout": minutes * 60, "report": report}
    # Several reports within the timeout, late ones included.
    assert 3 * report <= rule["timeout"]
