"""Homes with folders that a session cannot use, and homes without room."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from newcomer import Newcomer

Make = Callable[..., Newcomer]

SPOIL = {
    "of root": "mkdir -p {path} && chown -R root: {path}",
    "read-only": "mkdir -p {path} && chmod 555 {path}",
    "a file": "mkdir -p $(dirname {path}) && touch {path}",
    "a dangling link": "mkdir -p $(dirname {path}) && ln -s /nonexistent/folder {path}",
}


@pytest.mark.parametrize("kind", SPOIL)
@pytest.mark.parametrize("name", [".jupyter", ".local", ".local/share/jupyter", ".ipython"])
def test_the_session_starts_with_folders_of_its_own_names_the_bad_one_and_saves_work(
    newcomer: Make, name: str, kind: str
) -> None:
    person = newcomer()
    path = f"{person.home}/{name}"
    person.as_root(SPOIL[kind].format(path=path))
    if kind not in ("of root",):
        person.as_root(f"chown -hR {person.name}: {person.home}")
    person.start()
    assert person.cell("print(6 * 7)") == "42"
    assert path in person.wait_for_notice("cannot be used")
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    saved = person.session_rest(
        "PUT", "api/contents/work.ipynb", {"type": "notebook", "content": notebook}
    )
    assert saved.status_code == 201
    setting = person.session_rest(
        "PUT",
        "lab/api/settings/@jupyterlab/apputils-extension:themes",
        {"raw": '{"theme": "JupyterLab Dark"}'},
    )
    assert setting.status_code == 204


def test_an_ipython_history_of_root_does_not_keep_kernels_from_starting(newcomer: Make) -> None:
    person = newcomer()
    history = f"{person.home}/.ipython/profile_default/history.sqlite"
    person.write(".ipython/profile_default/history.sqlite", "")
    person.as_root(f"chown root: {history} && chmod 600 {history}")
    person.start()
    assert person.cell("print(6 * 7)") == "42"
    assert history in person.wait_for_notice("cannot be used")
