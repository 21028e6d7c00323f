# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker. On behalf of the unprivileged hub, it acts under a user's account.

systemd starts the broker as root for each request on a Unix socket, and the broker exits after the
request. It checks the caller, checks that the named user may have sessions, and checks *again* that
the menu allows the choice. Then the broker permanently switches to that user's account. There, it
either submits the constant job script or deletes one of the user's session jobs. An attacker who
has taken over the hub can make the broker start and stop sessions, but only those that the site
allows. Through the broker, the attacker can neither act as root, as a system account or as a person
whom the inventory does not name, nor get resources that are not on the menu. If the attacker
contacts Grid Engine directly, Grid Engine itself must prevent misuse (docs/security.md).
"""

from __future__ import annotations

import sys

from gridhub.broker.requests import main

if __name__ == "__main__":
    sys.exit(main())
