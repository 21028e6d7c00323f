# SPDX-License-Identifier: BSD-3-Clause
"""Unix accounts and their groups, as the host's directory service lists them."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd


def group_names(user: pwd.struct_passwd) -> frozenset[str]:
    """Return the names of an account's Unix groups, including its primary group."""
    names = set()
    for gid in os.getgrouplist(user.pw_name, user.pw_gid):
        with contextlib.suppress(KeyError):  # skip a gid without a name
            names.add(grp.getgrgid(gid).gr_name)
    return frozenset(names)
