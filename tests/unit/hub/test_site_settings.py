# SPDX-License-Identifier: BSD-3-Clause
"""A site's own lines of the hub's configuration take effect, or are refused with a reason."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from jupyterhub.app import JupyterHub
from traitlets import Unicode
from traitlets.config import Config

from folders import FILES, ROOT
from gridhub.hub import known_settings, site_settings
from gridhub.hub.known_settings import ADDABLE, CLASSES, REFUSED, WORKING
from gridhub.hub.login import ClusterAuthenticator
from gridhub.hub.openid import ClusterOpenID
from gridhub.hub.read_settings import SettingsError, check_lines
from gridhub.hub.routes import WatchedProxy
from sge_spawner import SGESpawner
from test_hub_config import rendered

READERS: dict[str, Any] = {
    "spawner": SGESpawner,
    "authenticator": ClusterAuthenticator,
    "openid": ClusterOpenID,
    "proxy": WatchedProxy,
    "hub": JupyterHub,
}
KINDS = sorted(READERS)


def refusal(lines: str, **variables: object) -> str:
    """Return why the hub's configuration with a site's lines is refused; empty if it is not."""
    try:
        rendered(jupyterhub_extra_config=lines, **variables)
    except SystemExit as error:
        return str(error.code)
    return ""


def early_refusal(lines: str) -> str:
    """Return why the lines are refused before anything is deployed."""
    try:
        check_lines(lines)
    except SettingsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_the_hubs_classes_is_classified_once(kind: str) -> None:
    tables = [WORKING[kind], ADDABLE.get(kind, {}), REFUSED[kind]]
    classified = [name for table in tables for name in table]
    assert sorted(classified) == sorted(READERS[kind].class_traits(config=True))
    ours = {each.__name__ for each in READERS[kind].__mro__ if "gridhub" in each.__module__}
    names = {each.__name__ for each in READERS[kind].__mro__}
    assert ours <= set(CLASSES[kind]) <= names | {"GridHub"}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in REFUSED[kind]]
)
def test_every_other_setting_is_refused_under_each_of_its_names(kind: str, name: str) -> None:
    reader = READERS[kind]
    for section in CLASSES[kind]:
        if known_settings.kind_of(section) != kind:
            continue
        bases = {each.__name__: each for each in reader.__mro__}
        if name not in bases.get(section, reader).class_traits(config=True):
            continue
        line = f"c.{section}.{name} = object()"
        issuer = "https://login.example.org" if kind == "openid" else ""
        late, early = refusal(line, jupyterhub_openid_issuer=issuer), early_refusal(line)
        assert late.startswith(f"jupyterhub_extra_config cannot set c.{section}.{name}: "), section
        assert early == f"{late} (line 1)"
        assert "\n" not in late


def test_the_settings_of_all_logins_are_judged_by_the_login_that_the_site_has() -> None:
    line = "c.Authenticator.enable_auth_state = True"
    assert refusal(line) == ""
    assert "keeps no token" in refusal(line, jupyterhub_openid_issuer="https://login.example.org")
    line = "c.ClusterOpenID.basic_auth = True"
    assert refusal(line, jupyterhub_openid_issuer="https://login.example.org") == ""
    assert "the hub uses no such class" in refusal(line)


@pytest.mark.parametrize("kind", KINDS)
def test_every_working_setting_is_accepted_with_its_default(kind: str) -> None:
    for name in WORKING[kind]:
        config = Config()
        if kind == "openid":
            config.JupyterHub.authenticator_class = ClusterOpenID
        value = READERS[kind].class_traits()[name].default_value
        setattr(config[CLASSES[kind][0]], name, value)
        if isinstance(value, str | int | float | bool | type(None)):
            assert site_settings.problems(config, {}) == [], name
        assert known_settings.objection(CLASSES[kind][0], name) == ""


REASONS = " ".join(why for table in REFUSED.values() for why in table.values())


@pytest.mark.parametrize(
    "setting", sorted(set(re.findall(r"\b(?:jupyterhub|sge_common|proxy)_[a-z_]+", REASONS)))
)
def test_the_variables_that_a_refusal_names_exist(setting: str) -> None:
    roles = {"jupyterhub": "jupyterhub", "sge": "sge_common", "proxy": "proxy"}
    role = roles[setting.partition("_")[0]]
    specs = (ROOT / "roles" / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    assert f" {setting}:" in specs


@pytest.mark.parametrize("other", sorted(set(re.findall(r"c\.[A-Za-z]+\.[a-z_]+", REASONS))))
def test_the_settings_that_a_refusal_names_can_be_used(other: str) -> None:
    _, section, name = other.split(".")
    assert known_settings.objection(section, name) == ""


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("c.Spawner.notebook_dir = '/scratch'", "jupyterhub_root_folders"),
        ("c.SGESpawner.environment = {'A': 'b'}", "jupyterhub_job_prologue"),
        ("c.Spawner.environment.update({'A': 'b'})", "jupyterhub_job_prologue"),
        ("c.Spawner.env_keep.append('A')", "jupyterhub_job_prologue"),
        ("c.BatchSpawnerBase.req_queue = 'x'", "jupyterhub_qsub_arguments"),
        ("if True:\n    c.Spawner.mem_limit = '1G'", "kind memory"),
        ("c.JupyterHub.spawner_class = 'simple'", "is a job of Grid Engine"),
        ("c.JupyterHub.internal_ssl = False", "certificates"),
        ("c.JupyterHub.cleanup_servers = True", "must not end sessions"),
        ("c.SGESpawner.wait_limt = 5", "Did you mean wait_limit?"),
        ("c.Spwner.wait_limit = 5", "Did you mean Spawner?"),
        ("c.LocalProcessSpawner.shell_cmd = ['sh']", "has no effect"),
        ("c.KubeSpawner.image = 'x'", "has no effect"),
        ("c.GitHubOAuthenticator.client_id = 'x'", "has no effect"),
        ("c.DummyAuthenticator.password = 'x'", "has no effect"),
        ("c.PAMAuthenticator.check_account = False", "always asks PAM"),
    ],
)
def test_settings_without_effect_are_named_before_and_during_the_deployment(
    lines: str, words: str
) -> None:
    late, early = refusal(lines), early_refusal(lines)
    assert early.startswith("jupyterhub_extra_config cannot set c.")
    assert words in late
    assert words in early


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("c.SGESpawner.wait_limit = 'long'", "the value is of type str; it must be a float"),
        ("c.JupyterHub.active_server_limit = 1.5", "1.5 is of type float; it must be an int"),
        ("c.JupyterHub.authenticator_class = 'nothing'", "it must be"),
        (
            "c.JupyterHub.load_roles = []",
            "(admin, administrators, idle-culler). Add to them instead",
        ),
        ("c.JupyterHub.load_roles.clear()", "(admin, administrators, idle-culler)"),
        ("c.JupyterHub.services = []", "(idle-culler)"),
        ("c.JupyterHub.tornado_settings = {'headers': {}}", "cookie_options"),
        ("c.JupyterHub.tornado_settings['cookie_options']['secure'] = False", "(cookie_options)"),
        ("c.JupyterHub.tornado_settings['log_function'] = print", "(log_function)"),
        ("c.JupyterHub.template_paths = ['/srv/pages']", "insert(0, …)"),
        ("c.JupyterHub.template_vars = {'a': 1}", "site_name"),
        ("c.Spawner.wait_limit = 5", "c.SGESpawner.wait_limit is set too, and overrides it"),
        ("s = c['Spawner']\ns['notebook_dir'] = '/'", "c.Spawner.notebook_dir"),
        ("setattr(c.Spawner, 'args', [])", "c.Spawner.args"),
        ("c.CryptKeeper.n_thread = 3", "Did you mean n_threads?"),
        ("c.Nothing.at_all = 1", "the hub uses no such class"),
    ],
)
def test_settings_that_only_the_hub_can_judge_are_named_by_it(lines: str, words: str) -> None:
    message = refusal(lines, jupyterhub_idle_timeout=60)
    assert message.startswith("jupyterhub_extra_config cannot set c.")
    assert words in message


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "# nothing",
        "c.JupyterHub.log_level = 'DEBUG'",
        "c.JupyterHub.upgrade_db = True",
        "c.JupyterHub.load_roles.append({'name': 'x', 'scopes': ['read:hub']})",
        "c.JupyterHub.services.append({'name': 'x', 'api_token': 'secret'})",
        "c.JupyterHub.services = [{'name': 'x'}]",
        "c.JupyterHub.tornado_settings['headers'] = {}",
        "c.JupyterHub.template_paths.insert(0, '/srv/pages')",
        "c.JupyterHub.template_vars.update({'a': 1})",
        "c.JupyterHub.internal_ssl",
        "if c.Spawner.environment:\n    pass",
        "async def hook(spawner):\n    pass\nc.Spawner.pre_spawn_hook = hook",
        "c.Authenticator.blocked_users.add('bob')",
        "c.Spawner.http_timeout = 60",
        "c.BatchSpawnerBase.poll_interval = 30",
        "c.CryptKeeper.n_threads = 3",
        "c.JupyterHub.authenticator_class = 'dummy'\nc.DummyAuthenticator.password = 'x'\n"
        "c.Authenticator.admin_users = {'ann'}",
    ],
)
def test_settings_that_take_effect_are_accepted(lines: str) -> None:
    assert (refusal(lines), early_refusal(lines)) == ("", "")


def test_a_setting_of_a_later_jupyterhub_is_refused_until_somebody_has_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Later(SGESpawner):
        novelty = Unicode().tag(config=True)

    Later.__name__ = "SGESpawner"
    monkeypatch.setattr(site_settings, "SGESpawner", Later)
    assert "GridHub does not know this setting of a newer" in refusal("c.SGESpawner.novelty = 'x'")


def test_a_refusal_shows_no_secret() -> None:
    for lines in ("c.JupyterHub.services = 's3cret'", "c.JupyterHub.cookie_secret = ['s3cret']"):
        message = refusal(lines)
        assert message and "s3cret" not in message


def test_all_problems_are_named_at_once() -> None:
    lines = "c.Spawner.args = []\n\nc.Spawner.debug, c.Spawner.port = True, 1\nc.Spawner.cmd = []"
    assert len(refusal(lines).splitlines()) == len(early_refusal(lines).splitlines()) == 4
    assert early_refusal(lines).splitlines()[-1].endswith("(line 4)")


def test_lines_that_are_not_python_are_named_early() -> None:
    assert early_refusal("x = 1\nc.Spawner.args = [") == (
        "jupyterhub_extra_config, line 2, is not Python: '[' was never closed"
    )


def test_the_early_check_needs_no_package_of_the_hub() -> None:
    # An entry of None in `sys.modules` makes an import fail.
    code = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(['jupyterhub', 'traitlets', 'tornado',"
        " 'sqlalchemy'])); sys.argv[1:] = ['settings', '-'];"
        " runpy.run_path('sge_check.py', run_name='__main__')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=b"c.Spawner.args = []",
        cwd=FILES,
        capture_output=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith(b"jupyterhub_extra_config cannot set c.Spawner.args: ")
