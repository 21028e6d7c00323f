#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The monthly maintenance of a host: updates, a reboot, and a check of the services afterwards.

A host may lack the hub's packages, and packages change while the program runs. Therefore, root runs
it with the host's own Python and only the standard library. ``jupyterhub-maintenance.timer`` starts
it. The package ``gridhub.maintenance`` beside this file does the work.
"""

from __future__ import annotations

import sys

from gridhub.maintenance.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
