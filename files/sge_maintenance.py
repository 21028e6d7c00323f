#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The monthly maintenance of a host: updates, a reboot, and a check of the services afterwards.

``jupyterhub-maintenance.timer`` starts this program as root. The program uses only the host's own
Python and the standard library: a host may lack the hub's packages, and packages change during the
updates. The package ``gridhub.maintenance`` beside this file does the work.
"""

from __future__ import annotations

import sys

from gridhub.maintenance.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
