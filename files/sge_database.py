# SPDX-License-Identifier: BSD-3-Clause
"""Check, copy and set aside the hub's database: ``sge_database.py COMMAND``."""

from __future__ import annotations

import sys

from gridhub.hub.database_tool import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
