# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: the way from the hub, which has no privilege, to a person's identity.

systemd starts it as root for one request on a Unix socket, and it is gone afterwards. It checks who
calls, that the named user may have sessions, and the choice against the menu *again*; becomes that
user for good; and submits the constant job script, or deletes a job that is such a session. A hub
that is taken over gets from it sessions the site approves of, and their end; not root, a system
account or a person the inventory does not name, nor what is not on the menu. What such a hub might
get from Grid Engine directly is Grid Engine's to prevent (docs/security.md).
"""

from __future__ import annotations

import sys

from gridhub.broker.requests import main

if __name__ == "__main__":
    sys.exit(main())
