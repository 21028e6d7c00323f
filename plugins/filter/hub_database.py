# SPDX-License-Identifier: BSD-3-Clause
"""Filters for the address of the hub's database; they run on the controller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "files"))

from gridhub.site.database import complete, files_of, password_line


class FilterModule:
    """The filters, as Ansible finds them."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "hub_database_files": files_of,
            "hub_database_password_line": password_line,
            "hub_database_url": complete,
        }
