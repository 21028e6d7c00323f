"""Parts of JupyterHub 6 that GridHub imports, for a hub with JupyterHub 5.5 in the tests.

GridHub has no release for JupyterHub 5. So the tests let this release run on JupyterHub 5.5.4, with
its tables, its migrations and its code, and add the names that are missing.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path

import jupyterhub
from jupyterhub.spawner import SpawnException

from cluster import PREFIX
from faults import machine, run

FOLDER = Path(jupyterhub.__file__).parent


def add(environment: str, work: Path) -> None:
    """Add the parts to an environment on the hub's host.

    :param environment: the folder of JupyterHub's package there.
    """
    assert version("jupyterhub").startswith("6.")
    for name, add_to in (("spawner.py", _spawner), ("metrics.py", _metrics)):
        machine("podman", "cp", f"{PREFIX}-hub:{environment}/{name}", str(work / name))
        text = (work / name).read_text(encoding="utf-8")
        (work / name).write_text(add_to(text), encoding="utf-8")
    for path in (
        *(work / name for name in ("spawner.py", "metrics.py")),
        *(FOLDER / name for name in ("httpclient.py", "slugs.py")),
    ):
        machine("podman", "cp", str(path), f"{PREFIX}-hub:{environment}/{path.name}")
    run("hub", f"chown root: {environment}/*.py; chmod 0644 {environment}/*.py")


def _spawner(text: str) -> str:
    if "class SpawnException" in text:
        return text
    before, _, after = text.partition("class Spawner(")
    added = f"from tornado import web\n\n\n{inspect.getsource(SpawnException)}\n\n"
    return f"{before}{added}class Spawner({after}"


def _metrics(text: str) -> str:
    name, following = "LOGIN_DURATION_SECONDS = ", "LOGOUT_DURATION_SECONDS = "
    if name in text:
        return text
    newer = (FOLDER / "metrics.py").read_text(encoding="utf-8")
    return f"{text}\n\n{name}{newer.partition(name)[2].partition(following)[0]}"
