"""Parts of JupyterHub 6 that GridHub imports, for a hub with JupyterHub 5.5 in the tests.

GridHub has no release for JupyterHub 5. So the tests let this release run on JupyterHub 5.5.4, with
its tables, its migrations and its code, and add three modules' worth of names that are missing.
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
    machine("podman", "cp", f"{PREFIX}-hub:{environment}/spawner.py", str(work / "spawner.py"))
    spawner = (work / "spawner.py").read_text(encoding="utf-8")
    if "class SpawnException" not in spawner:
        before, _, after = spawner.partition("class Spawner(")
        added = f"from tornado import web\n\n\n{inspect.getsource(SpawnException)}\n\n"
        (work / "spawner.py").write_text(f"{before}{added}class Spawner({after}", encoding="utf-8")
    for path in (work / "spawner.py", FOLDER / "httpclient.py", FOLDER / "slugs.py"):
        machine("podman", "cp", str(path), f"{PREFIX}-hub:{environment}/{path.name}")
    run("hub", f"chown root: {environment}/*.py; chmod 0644 {environment}/*.py")
