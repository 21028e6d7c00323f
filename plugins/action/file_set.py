# SPDX-License-Identifier: BSD-3-Clause
"""Keep contents of files, which may be secret, out of logs (``plugins/modules/file_set.py``)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Call the module, which would otherwise log its arguments on the host, and show them here."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        """Return the module's result without its arguments."""
        super().run(tmp, task_vars)
        quiet = (task_vars or {}) | {"ansible_no_target_syslog": True}
        result = self._execute_module(task_vars=quiet)
        result.pop("invocation", None)
        return result
