# SPDX-License-Identifier: BSD-3-Clause
"""The settings of a host's maintenance, as the role writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from gridhub.maintenance.errors import MaintenanceError

CONFIG = Path("/etc/gridhub/maintenance.json")


@dataclass(frozen=True)
class Settings:
    """The content of ``/etc/gridhub/maintenance.json``."""

    #: Whether the host has the maintenance timer. Without the timer, only playbooks maintain the
    #: host, and maintenance has no dates.
    timer: bool = True
    #: ``always`` or ``when_required``.
    reboot: str = "always"
    #: Time limit for the updates, in seconds.
    time_limit: int = 3600
    #: Free space that each file system must have before the updates, in MB.
    free_mb: int = 1000
    #: Minutes to wait for another program's update to end.
    lock_wait: int = 10
    announce_days: int = 7
    refuse_minutes: int = 10
    expected_minutes: int = 20
    #: The file with the notice for the hub's pages; empty on a host without a hub.
    notice_file: str = ""
    backup_folder: str = ""
    #: Whether a timer makes a backup every day.
    daily_backup: bool = False
    backup_keep: int = 14
    #: The oldest age of a backup, in days; 0 means any age.
    backup_days: int = 0
    #: The public keys of age or SSH for which backups are encrypted; none: they are not encrypted.
    backup_recipients: Sequence[str] = ()
    #: The folder with the hub's releases; empty on a host without a hub.
    hub_path: str = ""
    #: The hub's own folder, its configuration, and the file with the secret for cookies.
    hub_state: str = "/var/lib/jupyterhub"
    hub_config: str = "/etc/jupyterhub/jupyterhub_config.py"
    cookie_file: str = "/var/lib/jupyterhub/cookie_secret"
    #: What belongs to a release besides the release; empty means that of this release (``kept``).
    keep_paths: Sequence[str] = ()
    #: How many states of the hub are kept for going back, and for how many days; 0: any age.
    release_keep: int = 3
    release_days: int = 0
    #: The hub's SQLite database; empty if there is none.
    database: str = ""
    backup_paths: Sequence[str] = ()
    #: The words to put before a command, such as ``runuser``, to run the command as the hub's
    #: account, so that the hub's files are never read as root.
    as_hub: Sequence[str] = ()
    #: The command that prints a copy of a database that is not SQLite, in SQLite's format
    #: (``files/sge_database.py``).
    print_database: Sequence[str] = ()
    #: The site's own command, which backs up something else.
    backup_command: Sequence[str] = ()
    #: The command that prints the running sessions (``files/sge_sessions.py``); empty on a host
    #: without a hub.
    sessions: Sequence[str] = ()
    #: How many minutes the services may take to start again.
    check_minutes: int = 10
    units: Sequence[str] = ()
    #: Addresses that must answer with status 200.
    urls: Sequence[str] = ()
    #: The value of the header ``Host``, keyed by the host and port of a URL, for each server that
    #: expects another name.
    names: Mapping[str, str] = field(default_factory=dict)
    verify_tls: bool = True
    #: The proxy's address, through which people reach their sessions; if empty, the proxy is not
    #: checked.
    proxy: str = ""
    #: Whether each user has a separate subdomain of the public host name for sessions.
    user_subdomains: bool = False
    #: The command that prints all jobs in Grid Engine as XML; if empty, Grid Engine is not checked.
    qstat: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The smoke test starts and stops a session of this account.
    canary_user: str = ""
    #: The file with the account's password, and the one with its API token, which is used if there
    #: is no password.
    canary_password: str = ""
    canary_token: str = ""
    #: The command that prints the smallest choice of the menu (``files/sge_check.py``).
    smallest_choice: Sequence[str] = ()
    #: The command that runs a cell in a session (``files/sge_cell.py``).
    run_cell: Sequence[str] = ()
    #: Minutes between two smoke tests by the timer; 0 without the timer.
    smoke_minutes: int = 0
    #: The file with which ``drain.yml`` keeps sessions from starting; empty without a hub.
    drain_file: str = ""
    hub_api: str = ""
    #: The folder of the hub's certificates for connections within the cluster
    #: (``gridhub/tls.py``).
    certificates: str = ""
    metrics_file: str = ""
    #: The paths of certificates whose end is a metric, keyed by their names in the metrics.
    watched_certificates: Mapping[str, str] = field(default_factory=dict)
    #: Empty means no mail.
    mail_to: str = ""
    mail_from: str = ""
    mail_server: str = "localhost"
    mail_always: bool = False


def read_settings(path: Path = CONFIG) -> Settings:
    """Read the settings.

    :raises MaintenanceError: naming the value that is wrong.
    """
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise MaintenanceError(f"{path}: {error}") from error
    known = {each.name: each for each in fields(Settings)}
    if not isinstance(data, dict) or (unknown := set(data) - set(known)):
        wrong = min(unknown) if isinstance(data, dict) else data
        raise MaintenanceError(f"{path}: there is no setting {wrong!r}")
    settings = Settings(**data)
    for name in known:
        value, default = getattr(settings, name), getattr(Settings(), name)
        kind = (list, tuple) if isinstance(default, tuple) else type(default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise MaintenanceError(f"{path}: {name} cannot be {value!r}")
        if isinstance(value, int) and value < 0:
            raise MaintenanceError(f"{path}: {name} must not be negative, and is {value}")
    if settings.backup_keep < 1:
        raise MaintenanceError(f"{path}: backup_keep must be at least 1, for the new backup")
    if settings.reboot not in ("always", "when_required"):
        raise MaintenanceError(
            f"{path}: reboot must be 'always' or 'when_required', not {settings.reboot!r}"
        )
    return settings
