"""The hub's configuration as the role writes it, loaded as the hub would load it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined
from jupyterhub import orm
from traitlets.config import Config

from fake_directory import FakeDirectory
from folders import ROOT
from gridhub.hub import idle
from gridhub.hub.app import GridHub

ROLE = ROOT / "roles/jupyterhub"


def load(name: str) -> Any:
    return yaml.safe_load((ROLE / name).read_text(encoding="utf-8"))


def rendered(**variables: object) -> Config:
    """Return the configuration of a site that sets only these variables."""
    environment = Environment(trim_blocks=True, autoescape=False, undefined=StrictUndefined)
    environment.filters |= {
        "bool": lambda value: str(value).lower() in ("true", "yes", "1"),
        "comment": lambda words: f"# {words}",
        "to_json": json.dumps,
        "regex_replace": lambda words, pattern, new: re.sub(pattern, new, words),
    }
    text = (ROLE / "templates/jupyterhub_config.py.j2").read_text(encoding="utf-8")
    known = load("defaults/main.yml") | load("vars/main.yml") | variables
    report = environment.from_string(known["__jupyterhub_idle_report"]).render(known)
    known["__jupyterhub_idle_report"] = report
    elsewhere = {
        "ansible_managed": "managed",
        "sge_common_root": "/sge",
        "sge_common_cell": "default",
        "sge_common_bin_dir": "/sge/bin",
        "sge_common_ports": {},
        "sge_common_dialect": "ocs",
        "sge_common_session_path": "/opt/jupyterhub-session",
    }
    config = Config()
    source = environment.from_string(text).render(known | elsewhere)
    exec(compile(source, "jupyterhub_config.py", "exec"), {"get_config": lambda: config})
    return config


def test_a_prometheus_may_read_the_metrics_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRIDHUB_METRICS_TOKEN", "a" * 64)
    config = rendered()
    assert config.JupyterHub.services == [{"name": "prometheus", "api_token": "a" * 64}]
    assert config.JupyterHub.load_roles[-1] == {
        "name": "prometheus",
        "scopes": ["read:metrics"],
        "services": ["prometheus"],
    }
    assert config.JupyterHub.authenticate_prometheus is True
    assert "GRIDHUB_METRICS_TOKEN" not in os.environ  # children of the hub do not get it


def test_by_default_idle_sessions_are_not_ended() -> None:
    config = rendered()
    assert config.JupyterHub.services == []
    assert [role["name"] for role in config.JupyterHub.load_roles] == ["admin", "administrators"]


@pytest.mark.parametrize("full_access", [False, True])
def test_the_inventory_names_the_administrators_and_whether_they_have_full_access(
    full_access: bool,
) -> None:
    config = rendered(jupyterhub_admin_users=["ann"], jupyterhub_admin_access=full_access)
    assert "admin_users" not in config.Authenticator
    admin, administrators = config.JupyterHub.load_roles
    # The list must exist even if it is empty: without a list, users would keep the role.
    assert admin == {"name": "admin", "users": ["ann"] if full_access else []}
    assert administrators["users"] == ([] if full_access else ["ann"])
    scopes = set(administrators["scopes"])
    assert not {s for s in scopes if s.startswith(("admin:", "access:", "tokens", "shutdown"))}


def test_names_of_the_inventory_become_the_accounts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDirectory(monkeypatch).add("ann.smith", "ann")
    config = rendered(
        jupyterhub_admin_users=["ann", "no-such-account"],
        jupyterhub_admin_access=False,
        jupyterhub_allowed_users=["ann", "a/b", " "],
    )
    assert config.JupyterHub.load_roles[1]["users"] == ["ann.smith", "no-such-account"]
    # JupyterHub does not start with a name that it calls invalid.
    assert config.Authenticator.allowed_users == {"ann.smith"}


def test_by_default_there_are_no_administrators() -> None:
    assert [role["users"] for role in rendered().JupyterHub.load_roles] == [[], []]


def test_no_service_is_an_administrator() -> None:
    config = rendered(jupyterhub_idle_timeout=90)
    assert not any(service.get("admin") for service in config.JupyterHub.services)
    assert config.Authenticator.allow_all is False


def test_cookies_are_limited_to_https_and_this_site() -> None:
    options = rendered().JupyterHub.tornado_settings["cookie_options"]
    assert options == {"secure": True, "samesite": "Lax"}


def test_users_get_host_names_if_the_site_enables_them() -> None:
    config = rendered(
        jupyterhub_public_url="https://hub.example.org:8443/lab/", jupyterhub_user_subdomains=True
    )
    assert config.JupyterHub.public_url == "https://hub.example.org:8443/lab/"
    assert config.JupyterHub.subdomain_host == "https://hub.example.org:8443"
    assert config.JupyterHub.cookie_host_prefix_enabled is True


def test_by_default_all_sessions_share_the_hubs_host() -> None:
    config = rendered(jupyterhub_public_url="https://hub.example.org/").JupyterHub
    assert "subdomain_host" not in config
    # With this setting, the names of the hub's cookies would begin with `__Host-`. Such cookies
    # must have the path `/`, so browsers would send them to every session.
    assert "cookie_host_prefix_enabled" not in config


def test_the_culler_has_only_the_scopes_it_needs() -> None:
    config = rendered(jupyterhub_idle_timeout=90)
    (service,), (*_, role) = config.JupyterHub.services, config.JupyterHub.load_roles
    assert service.keys() == {"name", "command"}
    assert service["name"] == idle.SERVICE
    assert role["services"] == [idle.SERVICE]
    assert role["scopes"] == [
        "list:users",
        "read:users:activity",
        "read:servers",
        "delete:servers",
    ]


@pytest.mark.parametrize(
    ("minutes", "every", "report"), [(1, 15, 15), (4, 60, 60), (20, 60, 300), (600, 60, 300)]
)
def test_hub_and_culler_use_the_same_timeout(minutes: int, every: int, report: int) -> None:
    config = rendered(jupyterhub_idle_timeout=minutes)
    command = config.JupyterHub.services[0]["command"]
    assert f"--timeout={minutes * 60}" in command
    assert f"--cull-every={every}" in command
    rule = config.JupyterHub.tornado_settings[idle.SETTING]
    assert rule == {"timeout": minutes * 60, "report": report}
    # Several reports fit into the timeout, even if some are late.
    assert 3 * report <= rule["timeout"]


async def start(config: Config, folder: Path) -> dict[str, set[str]]:
    """Start a hub up to the point where it takes requests; return who has which role."""
    config.JupyterHub.db_url = "sqlite://"
    config.JupyterHub.cookie_secret = b"0" * 32
    config.JupyterHub.internal_certs_location = str(folder)
    hub = GridHub(config=config)
    hub.init_db()
    hub.init_hub()
    hub.init_oauth()
    await hub.init_role_creation()
    await hub.init_users()
    await hub.init_groups()
    hub.init_services()
    await hub.init_api_tokens()
    await hub.init_role_assignment()
    roles = hub.db.query(orm.Role).filter(orm.Role.name.in_(("admin", "administrators")))
    return {role.name: {user.name for user in role.users} for role in roles}


@pytest.mark.parametrize("full_access", [False, True])
@pytest.mark.parametrize("is_down", [False, True], ids=["directory answers", "directory is down"])
async def test_administrators_without_an_account_do_not_keep_the_hub_from_starting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full_access: bool, is_down: bool
) -> None:
    directory = FakeDirectory(monkeypatch)
    directory.add("ann")
    directory.down = is_down
    config = rendered(
        jupyterhub_admin_users=["ann", "no-such-account", "a/b", " "],
        jupyterhub_admin_access=full_access,
        jupyterhub_allowed_users=["bob"],
    )
    found = await start(config, tmp_path)
    given, empty = ("admin", "administrators") if full_access else ("administrators", "admin")
    assert found[given] == {"ann", "no-such-account"}
    assert found[empty] == set()
