# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to the local cluster as containers.podman.podman does, but with pipelining.

The collection's plugin mounts the container, and then calls podman five times for each task: to
find the home folder, make a temporary folder, copy the module there, run the module and remove the
folder. With pipelining, one call sends the module through standard input and runs it, so a run on
the five hosts is about four times faster. As root, this plugin calls podman's runtime, runc, which
starts a program in a quarter of podman's time and copies files without stopping the container. Only
this file is under the GPL, because it extends a plugin that is under the GPL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
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
    """Connect like the collection's plugin, but pipeline modules and do not mount the container."""

    transport = "podman_piped"
    has_pipelining = True
    #: The container's id as root; empty if this plugin must use podman.
    _id = ""

    def _connect(self) -> Connection:
        # The collection's plugin mounts the container here. Without a mount, its methods copy files
        # with `podman cp`.
        if os.geteuid() == 0 and not self.user and not self._id:
            _, out, _ = self._podman(["inspect", "--format", "{{.Id}}"])
            self._id = out.decode().strip()
        self._connected = True
        return self

    def _podman(self, cmd: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(cmd, list) and cmd[0] == "exec":
            cmd = ["exec", "--interactive", *cmd[1:]]
            if self._id:
                return self._runc(*args, **kwargs)
        return super()._podman(cmd, *args, **kwargs)

    def _runc(self, cmd_args: list[str], in_data: bytes | None = None) -> tuple[int, bytes, bytes]:
        """Run a program in the container; return its exit status, output and error output."""
        done = subprocess.run(
            [shutil.which("runc") or "runc", "exec", self._id, *cmd_args],
            input=in_data or b"",
            capture_output=True,
        )
        return done.returncode, done.stdout, done.stderr

    def _copy(self, line: str, path: str, in_data: bytes = b"") -> bytes:
        """Run a shell line on the file ``path`` in the container; return its output."""
        status, out, error = self._runc(["sh", "-c", line, "sh", path], in_data)
        if status:
            raise AnsibleError(f"Cannot copy {path} of {self._container_id}: {error.decode()}")
        return out

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file into the container."""
        self._connect()
        if not self._id:
            super().put_file(in_path, out_path)
            return
        self._copy('umask 077; cat >"$1"', out_path, Path(in_path).read_bytes())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out of the container."""
        self._connect()
        if not self._id:
            super().fetch_file(in_path, out_path)
            return
        Path(out_path).write_bytes(self._copy('cat "$1"', in_path))
