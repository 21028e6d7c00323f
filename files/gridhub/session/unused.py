# SPDX-License-Identifier: BSD-3-Clause
"""What JupyterLab offers and a session never uses: neither server nor page ask for it."""

from __future__ import annotations

import importlib.util
from typing import Any

#: JupyterLab's plugins for language servers. Without the package ``jupyterlab_lsp``, they only look
#: for servers.
LANGUAGE_SERVERS = (
    "@jupyterlab/lsp-extension",
    "@jupyterlab/notebook-extension:language-server",
    "@jupyterlab/fileeditor-extension:language-server",
)


def uses_language_servers() -> bool:
    """Return whether the site has added the package that uses language servers."""
    return importlib.util.find_spec("jupyterlab_lsp") is not None


def server_extensions() -> dict[str, bool]:
    """Return the setting ``jpserver_extensions``: the extensions of the server that are off."""
    # It takes over settings for the server before Jupyter Server, and imports IPython.
    off = {"notebook_shim": False}
    return off if uses_language_servers() else {**off, "jupyter_lsp": False}


def shorten_page(settings: dict[str, Any]) -> None:
    """Leave out of the pages of JupyterLab and Notebook what nobody uses.

    :param settings: the settings of the server, which this function changes.
    """
    # Users cannot build JupyterLab, whose files belong to the site.
    settings.setdefault("page_config_data", {}).update(buildAvailable=False, buildCheck=False)
    if uses_language_servers():
        return
    plain = settings["page_config_hook"]  # JupyterHub's

    def page_config_hook(handler: Any, page: dict[str, Any]) -> dict[str, Any]:
        page = plain(handler, page)
        return {**page, "disabledExtensions": [*page["disabledExtensions"], *LANGUAGE_SERVERS]}

    settings["page_config_hook"] = page_config_hook
