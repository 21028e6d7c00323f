"""Modules that are left out of a session's server."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from folders import FILES
from gridhub.session.left_out import (
    LATER,
    MISSING,
    PLACEHOLDERS,
    LeftOutError,
    left_out,
    start_no_node,
)

#: JupyterHub's parts that a session's server uses, and what they must not import.
PROGRAM = """
import sys
from gridhub.session.left_out import left_out
with left_out():
    import jupyterhub.services.auth, jupyterhub.log
print(*sorted(sys.modules))
import sqlalchemy, jupyterhub.orm, jupyterhub.handlers
print(sqlalchemy.__version__, jupyterhub.orm.User.__tablename__, jupyterhub.handlers.__file__)
print(jupyterhub.metrics.RUNNING_SERVERS)
"""


def test_jupyterhub_imports_no_database_and_gets_the_real_modules_afterwards() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(FILES)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, version, metrics = run.stdout.splitlines()
    assert "jupyterhub.services.auth" in imported.split()
    for name in (*PLACEHOLDERS, *LATER, "alembic"):
        assert name not in imported.split(), name
    assert version[0].isdigit()
    assert " users " in version
    assert metrics


#: A request of JupyterHub's own code to an address where nothing listens, with two threads'
#: imports at once.
REQUESTS = """
import asyncio, sys
from gridhub.session.left_out import left_out
with left_out():
    from jupyterhub.utils import aiohttp, fetch
    import requests
async def main():
    one, two = [fetch("http://127.0.0.1:1/") for _ in range(2)]
    return await asyncio.gather(one, two, return_exceptions=True)
for error in asyncio.run(main()):
    assert isinstance(error, aiohttp.ClientConnectionError), error
import aiohttp as real
assert aiohttp.ClientSession is real.ClientSession
print(requests.get.__module__)
"""


def test_jupyterhubs_client_is_imported_at_the_first_request() -> None:
    run = subprocess.run(
        [sys.executable, "-c", REQUESTS],
        env={"PYTHONPATH": str(FILES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "requests.api\n"), run.stderr


def test_a_module_that_is_used_at_once_is_imported_at_once() -> None:
    program = (
        "from gridhub.session.left_out import left_out\n"
        "with left_out():\n"
        "    from aiohttp import ClientSession\n"
        "import aiohttp\n"
        "assert aiohttp.ClientSession is ClientSession\n"
    )
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(FILES)}, check=True)


def test_a_placeholder_has_classes_without_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PLACEHOLDERS, *MISSING):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with left_out():
        from sqlalchemy.exc import SQLAlchemyError

        assert issubclass(SQLAlchemyError, LeftOutError)
        with pytest.raises(ImportError):
            import rfc3987_syntax  # noqa: F401
        assert not hasattr(sys.modules["sqlalchemy"], "__version__")


def test_modules_that_are_already_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType("rfc3987_syntax")
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", real)
    with left_out():
        assert sys.modules["rfc3987_syntax"] is real
    assert sys.modules["rfc3987_syntax"] is real


def test_an_error_while_modules_are_left_out_leaves_no_placeholder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in PLACEHOLDERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ZeroDivisionError), left_out():
        raise ZeroDivisionError
    assert not set(PLACEHOLDERS) & set(sys.modules)


def test_jupyterlab_starts_no_program_to_read_settings() -> None:
    commands = SimpleNamespace(_yarn_config=None)
    start_no_node(commands)
    assert commands._yarn_config(None) == {"yarn config": {}, "npm config": {}}
