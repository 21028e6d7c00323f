# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: it acts as a person on behalf of the hub, which has no privilege.

systemd starts it as root for one request on a Unix socket, and it exits after the request. It
checks the caller, that the named user may have sessions, and the choice against the menu *again*;
permanently becomes that user; and submits the constant job script, or deletes the job of such a
session. An attacker who takes over the hub can make the broker start and stop sessions that the
site approves of. The attacker cannot use it to become root, a system account or a person the
inventory does not name, or to get resources that are not on the menu. Grid Engine itself must
prevent misuse if such a hub contacts it directly (docs/security.md).
"""

from __future__ import annotations

import sys

from gridhub.broker.requests import main

if __name__ == "__main__":
    sys.exit(main())
