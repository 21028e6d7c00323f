# SPDX-License-Identifier: BSD-3-Clause
"""The hub: JupyterHub that knows, from its first moment on, which jobs are its own."""

from __future__ import annotations

from jupyterhub.app import JupyterHub

from sge_spawner import watch_sessions


class GridHub(JupyterHub):
    """JupyterHub with one thing to do before it looks at the sessions of its database."""

    async def init_spawners(self) -> int:
        """Have Grid Engine asked about all sessions at once; then each is taken up."""
        watch_sessions(self)
        return int(await super().init_spawners())


if __name__ == "__main__":
    GridHub.launch_instance()
