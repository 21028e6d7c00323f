# SPDX-License-Identifier: BSD-3-Clause
"""Which account names Grid Engine takes as the owner of a job."""

from __future__ import annotations

import re

#: The characters that Grid Engine 8.1.9 takes at the start of a name, and after it, as far as they
#: are ordinary in names of accounts. It refuses ``@``, backslash, percent, comma, quotes, brackets,
#: pipe and all characters beyond ASCII. With a blank in the owner, the job fails. ``*`` and ``?``
#: would be wildcards in qstat's list of users.
_OWNER = re.compile(r"[A-Za-z0-9_+$~][A-Za-z0-9_.+$~-]*")

#: Names with a meaning of their own in Grid Engine, in any case.
_KEYWORDS = frozenset({"all", "default", "none", "template"})

#: The longest name. Grid Engine 8.1.9 cuts longer ones, so that the job belongs to another name.
LONGEST_OWNER = 127


def refused_part(owner: str) -> str:
    """Return the part of a name because of which Grid Engine refuses it; empty if it takes it."""
    if owner.lower() in _KEYWORDS:
        return owner
    found = _OWNER.match(owner)
    return owner[found.end() if found else 0 :][:1]
