# SPDX-License-Identifier: BSD-3-Clause
"""Disk space that is set aside before anything is changed, so that going back works on a full disk.

Going back frees it first, and then needs no more than that. On the disks of the journal, of the
release and the configuration, and of the database, there is one file each.
"""

from __future__ import annotations

from pathlib import Path

from gridhub.maintenance import archive, host, hub, kept, report
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

NAME = ".reserve"

#: For the journal, and for what the hub writes when it starts, in bytes.
_LITTLE = 2 << 20


def hold(settings: Settings, state: kept.Kept) -> None:
    """Set the space aside that is needed to put a state back.

    :raises MaintenanceError: when there is not enough.
    """
    copy, files = state.folder / archive.DATABASE, state.folder / archive.FILES
    database = copy.stat().st_size if copy.exists() else 0
    # The pack is compressed; text becomes at most ten times as long.
    unpacked = 10 * files.stat().st_size if files.exists() else 0
    for folder, size in ((report.STATE, _LITTLE), (Path(settings.hub_path), _LITTLE + unpacked)):
        try:
            host.allocate(folder / NAME, size)
        except OSError as error:
            raise MaintenanceError(
                f"setting {size} bytes aside in {folder}, for going back: {error.strerror}"
            ) from error
    # The copy, the journal of a change in it, and what the hub writes when it starts.
    hub.reserve(settings, NAME, 2 * database + _LITTLE)


def free(settings: Settings) -> None:
    """Free what is set aside."""
    for folder in (report.STATE, Path(settings.hub_path)):
        (folder / NAME).unlink(missing_ok=True)
    hub.free(settings, NAME)
