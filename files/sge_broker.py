# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker, which acts under users' accounts for the unprivileged hub.

systemd starts the broker as root. Each request on a Unix socket has a process of its own, which
exits after the request. It checks the caller, checks that the named user may have sessions, and
checks *again* that the menu allows the choice. Then it switches permanently to the user's account,
and either submits the constant job script or deletes one of the user's session jobs.

An attacker who has taken over the hub can make the broker start and stop sessions, but only
sessions that the site allows. The broker does not let the attacker act as root, as a system account
or as a person whom the inventory does not name. Nor does it grant resources that are not on the
menu. The broker cannot stop an attacker who contacts Grid Engine directly: this is Grid Engine's
own task (docs/security.md).
"""

from __future__ import annotations

import sys

from gridhub.broker.requests import main

if __name__ == "__main__":
    sys.exit(main())
