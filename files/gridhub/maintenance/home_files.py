# SPDX-License-Identifier: BSD-3-Clause
"""The files that a session of the canary leaves in its home.

Root only starts the programs that list and remove them; they run as the canary, because root may
have no rights in a home on a file server, and must not follow links that a user has made.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from gridhub.maintenance import host
from gridhub.maintenance.backup import PROGRAM
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: Where a session writes in a home, besides what a person's own programs write. Nothing else is
#: looked at, because the account may be used for other things.
SESSION_PLACES = (
    ".jupyterhub-sessions",
    ".ipython",
    ".jupyter",
    ".local/share/jupyter",
    ".local/share/jupyterhub",
    ".cache",
)

#: With more files than this, the account is used for more than smoke tests.
MAX_FILES = 10_000


def _as_canary(settings: Settings, *arguments: str) -> list[str]:
    return ["runuser", "-u", settings.canary_user, "--", *PROGRAM, "session-files", *arguments]


def session_files(settings: Settings) -> list[str]:
    """Return the paths where sessions write in the canary's home.

    :raises MaintenanceError: when the home cannot be read, or has too many files.
    """
    named = f"listing the home of {settings.canary_user}"
    shown = host.run(_as_canary(settings, "list"), named=named)
    return [str(each) for each in json.loads(shown)]


def remove_session_files(settings: Settings, before: list[str]) -> list[str]:
    """Remove the files that a session has made in the canary's home; return their paths.

    :param before: the paths that were there before.
    :raises MaintenanceError: when one cannot be removed.
    """
    with host.in_memory(json.dumps(before).encode()) as file:
        named = f"cleaning the home of {settings.canary_user}"
        shown = host.run(_as_canary(settings, "remove"), reads=file, named=named)
    return [str(each) for each in json.loads(shown)]


def list_home(home: Path) -> list[str]:
    """Return all paths where sessions write below a home; this runs as the account.

    :raises MaintenanceError: when there are too many.
    """
    found: list[str] = []
    # A parent of a place is listed too, so that it can be removed if a session has made it.
    parents = {str(parent) for place in SESSION_PLACES for parent in Path(place).parents}
    found += sorted(each for each in parents - {"."} if (home / each).is_dir())
    for place in SESSION_PLACES:
        top = home / place
        if top.is_symlink() or not top.exists():
            continue
        found.append(place)
        for folder, folders, files in os.walk(top):
            found += [str((Path(folder) / each).relative_to(home)) for each in [*folders, *files]]
            if len(found) > MAX_FILES:
                raise MaintenanceError(
                    f"{top} has more than {MAX_FILES} files: use an account for the smoke test only"
                )
    return found


def remove_new(home: Path, before: list[str]) -> list[str]:
    """Remove the paths that were not there before; return them. This runs as the account."""
    new = set(list_home(home)) - set(before)
    removed = []
    # The longest paths first: a folder is empty after its content.
    for name in sorted(new, key=lambda each: (-each.count("/"), each)):
        path = home / name
        try:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            # NFS keeps the name of a file that is still open for a moment.
            if not path.name.startswith(".nfs") and not (path.is_dir() and any(path.iterdir())):
                raise MaintenanceError(f"{path}: {error.strerror}") from error
        else:
            removed.append(name)
    return removed
