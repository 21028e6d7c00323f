# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: it acts as a person on behalf of the hub, which has no privilege.

systemd starts the broker as root for each request on a Unix socket, and the broker exits after the
request. It checks the caller, checks that the named user may have sessions, and checks *again* that
the menu allows the choice. Then the broker permanently becomes that user, and either submits the
constant job script or deletes the job of one of the user's sessions. An attacker who takes over the
hub can make the broker start and stop only sessions that the site allows. The attacker cannot use
the broker to become root, a system account or a person whom the inventory does not name, or to get
resources that are not on the menu. If the attacker contacts Grid Engine directly, Grid Engine
itself must prevent misuse (docs/security.md).
"""

from __future__ import annotations

import sys

from gridhub.broker.requests import main

if __name__ == "__main__":
    sys.exit(main())
