# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: it acts as a person on behalf of the hub, which has no privilege.

systemd starts it as root for each request on a Unix socket, and it exits after the request. It
checks the caller, whether the named user may have sessions, and *again* whether the menu allows the
choice. Then it permanently becomes that user, and submits the constant job script or deletes the
job of such a session. An attacker who takes over the hub can make the broker start and stop only
sessions that the site allows. The attacker cannot use it to become root, a system account or a
person whom the inventory does not name, or to get resources that are not on the menu. If such a hub
contacts Grid Engine directly, Grid Engine itself must prevent misuse (docs/security.md).
"""

from __future__ import annotations

import sys

from gridhub.broker.requests import main

if __name__ == "__main__":
    sys.exit(main())
