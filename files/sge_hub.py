# SPDX-License-Identifier: BSD-3-Clause
"""The hub's process: JupyterHub, extended to watch all sessions' jobs from its start."""

from __future__ import annotations

from gridhub.hub.app import GridHub

if __name__ == "__main__":
    GridHub.launch_instance()
