# SPDX-License-Identifier: BSD-3-Clause
"""The hub's process: JupyterHub that knows its jobs from its first moment on."""

from __future__ import annotations

from gridhub.hub.app import GridHub

if __name__ == "__main__":
    GridHub.launch_instance()
