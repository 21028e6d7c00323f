# SPDX-License-Identifier: BSD-3-Clause
"""Start the session's server without modules that it never uses.

Importing everything that JupyterHub and Jupyter Server import takes longer than all other steps of
a start together. Most of it serves other programs: the hub's database, and checks of rare formats.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any


async def fetch(url: str, **options: Any) -> Any:
    """Make a request with JupyterHub's own client, which is imported at the first request.

    The import takes longer than the request. It happens in a thread, so that the server can answer
    its first user in the meantime.
    """
    client = await asyncio.to_thread(importlib.import_module, "jupyterhub.httpclient")
    return await client.fetch(url, **options)


#: Modules of which other modules only import names, without using them in a session. While they are
#: imported, the modules have these contents; any other name is a class that nothing is an instance
#: of.
PLACEHOLDERS: Mapping[str, Mapping[str, Any]] = {
    # The hub's database and its pages. JupyterHub's log uses the class of one page; its code for
    # scopes and roles refers to tables.
    "jupyterhub.handlers": {},
    "jupyterhub.handlers.pages": {},
    "jupyterhub.orm": {},
    "sqlalchemy": {},
    "sqlalchemy.exc": {},
    "jupyterhub.httpclient": {"fetch": fetch},
    # The hub's own metrics. JupyterHub's log would count each request here.
    "jupyterhub.metrics": {"prometheus_log_method": lambda handler: None},
    # Installs extensions from PyPI into the notebook environment, which no user may write to.
    "jupyterlab.extensions.pypi": {},
}

#: Modules for rare formats (addresses, durations) in schemas of events.
#: jsonschema does not check such a format if its module is missing.
MISSING = ("isoduration", "rfc3986_validator", "rfc3987_syntax")

#: Modules to import at their first use. Jupyter uses ``requests`` only for lists of blocked
#: extensions, and JupyterHub uses ``aiohttp`` for its client.
LATER = ("aiohttp", "requests")


class LeftOutError(Exception):
    """The base class of what a placeholder contains. It has no instances."""


def _placeholder(name: str, contents: Mapping[str, Any]) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    module.__dict__.update(contents)

    def find(attribute: str) -> type:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return type(attribute, (LeftOutError,), {})

    module.__getattr__ = find  # type: ignore[method-assign]
    return module


def _imported_later(name: str) -> ModuleType:
    """Return a module that imports the real one when it is first used.

    :class:`importlib.util.LazyLoader` does not serve here: with Python 3.11, the second ``import``
    of a module already uses it.
    """
    module = ModuleType(name)

    def find(attribute: str) -> Any:
        # Without __path__, it is no package: a module of the package would be imported twice.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(name) is module:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    module.__getattr__ = find  # type: ignore[method-assign]
    return module


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Replace the modules while the server's own modules are imported.

    Afterwards, whoever imports one of them gets the real module, for example an extension that has
    a database of its own.
    """
    modules: dict[str, Any] = {
        name: _placeholder(name, PLACEHOLDERS[name]) for name in PLACEHOLDERS
    }
    modules |= {name: _imported_later(name) for name in LATER}
    modules |= dict.fromkeys(MISSING)
    modules = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in modules.items():
            if sys.modules.get(name, module) is module:
                sys.modules.pop(name, None)
            package, _, attribute = name.rpartition(".")
            parent = sys.modules.get(package)
            if module is not None and getattr(parent, attribute, None) is module:
                delattr(parent, attribute)


def start_no_node(commands: Any) -> None:
    """Prevent JupyterLab from starting Node.js, which may take longer than the rest of the start.

    JupyterLab would ask Node.js for the settings with which it builds itself. Sessions never build
    JupyterLab.

    :param commands: the module ``jupyterlab.commands``, which this function changes.
    """
    commands._yarn_config = lambda logger: {"yarn config": {}, "npm config": {}}


def import_server() -> None:
    """Import the modules of the session's server, without what it never uses.

    :raises ImportError: if a module is missing, or uses a module that is left out.
    """
    with left_out():
        importlib.import_module("jupyterhub.singleuser.extension")
        start_no_node(importlib.import_module("jupyterlab.commands"))
        importlib.import_module("jupyterlab.labapp")


def import_later() -> None:
    """Import what a session imports when it first needs it.

    :raises ImportError: if a module is missing.
    """
    for name in ("jupyterhub.httpclient", *LATER):
        importlib.import_module(name)
