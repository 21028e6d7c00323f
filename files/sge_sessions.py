# SPDX-License-Identifier: BSD-3-Clause
"""Print the running sessions in the hub's database: ``sge_sessions.py CONFIGURATION``."""

from __future__ import annotations

import sys

from gridhub.hub.sessions import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
