# SPDX-License-Identifier: GPL-3.0-or-later
"""containers.podman.podman with pipelining, for the local cluster.

The collection's plugin calls podman five times for each task (to find the home, make a folder, copy
the module, run it and remove the folder) and once to mount the container. A module that is sent
through standard input needs one call, so a run on the five hosts is about four times faster. Only
this file is under the GPL, because it extends a plugin under the GPL.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.containers.podman.plugins.connection.podman import Connection as Podman

DOCUMENTATION = """
author: GridHub contributors
name: podman_piped
short_description: Run tasks in a podman container, modules through standard input
description:
  - Like containers.podman.podman, but with pipelining.
options:
  remote_addr:
    description: The container.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
  remote_user:
    description: The user that runs the commands.
    vars:
      - name: ansible_user
  podman_executable:
    description: The podman program.
    default: podman
  podman_extra_args:
    description: More arguments for podman.
    default: ""
"""


class Connection(Podman):
    """The collection's connection, with pipelining and without mounting the container."""

    transport = "podman_piped"
    has_pipelining = True

    def _connect(self) -> Connection:
        # Without the mount, the plugin copies files with `podman cp`.
        self._connected = True
        return self

    def _podman(self, cmd: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(cmd, list) and cmd[0] == "exec":
            cmd = ["exec", "--interactive", *cmd[1:]]
        return super()._podman(cmd, *args, **kwargs)
