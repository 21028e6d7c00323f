"""What JupyterLab offers and a session never uses."""

from __future__ import annotations

from typing import Any

import pytest

from gridhub.session.unused import LANGUAGE_SERVERS, server_extensions, shorten_page


def page(own: list[str]) -> dict[str, Any]:
    """Return the settings of a page whose site has switched these extensions off itself."""

    def of_jupyterhub(handler: object, page: dict[str, Any]) -> dict[str, Any]:
        return {**page, "token": ""}

    settings: dict[str, Any] = {"page_config_hook": of_jupyterhub}
    shorten_page(settings)
    config = {**settings["page_config_data"], "disabledExtensions": own}
    return dict(settings["page_config_hook"](None, config))


def test_the_page_looks_for_no_language_servers_and_offers_no_build() -> None:
    assert page(["own"]) == {
        "buildAvailable": False,
        "buildCheck": False,
        "disabledExtensions": ["own", *LANGUAGE_SERVERS],
        "token": "",
    }
    assert server_extensions() == {"notebook_shim": False, "jupyter_lsp": False}


def test_a_site_that_adds_jupyterlab_lsp_has_language_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jupyterlab_lsp" or None)
    assert page([])["disabledExtensions"] == []
    assert server_extensions() == {"notebook_shim": False}
