# SPDX-License-Identifier: BSD-3-Clause
"""Disk space that is set aside before the hub is stopped, so that going back works on a full disk.

Going back frees it first, and then needs no more than that. On the disks of the journal, of the
release and the configuration, and of the database, there is one file each.
"""

from __future__ import annotations

from pathlib import Path

from gridhub.maintenance import archive, host, hub, report
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

NAME = ".reserve"

#: For the journal, and for what the hub writes when it starts, in bytes.
_LITTLE = 2 << 20


def hold(settings: Settings) -> None:
    """Set the space aside that is needed to put the present state back, and to start the hub.

    :raises MaintenanceError: when there is not enough.
    """
    # A backup has the database and the configuration in it.
    sizes = [
        each.stat().st_size
        for each in (Path(settings.database), *archive.all_in(Path(settings.backup_folder))[-1:])
        if each.is_file()
    ]
    needed = max(sizes, default=0)
    for folder, size in ((report.STATE, _LITTLE), (Path(settings.hub_path), _LITTLE + needed)):
        try:
            host.allocate(folder / NAME, size)
        except OSError as error:
            raise MaintenanceError(
                f"setting {size} bytes aside in {folder}, for going back: {error.strerror}"
            ) from error
    # The copy, the journal of a change in it, and what the hub writes when it starts.
    hub.reserve(settings, NAME, 2 * needed + _LITTLE)


def free(settings: Settings) -> None:
    """Free what is set aside."""
    for folder in (report.STATE, Path(settings.hub_path)):
        (folder / NAME).unlink(missing_ok=True)
    hub.free(settings, NAME)
