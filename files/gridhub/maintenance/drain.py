# SPDX-License-Identifier: BSD-3-Clause
"""Keep new sessions from starting, and end all sessions after notice, for ``playbooks/drain.yml``.

The drain itself is a file that the hub reads (``gridhub/notices/drain.py``), which the playbook
writes. Here is what concerns the running sessions.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gridhub.maintenance import host, operator, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import Settings

#: When the sessions were last sent a notice of their end.
NOTICE = Path("/var/lib/gridhub-maintenance/drain-notice.json")


def read_drain(settings: Settings) -> dict[str, Any]:
    """Return the drain that applies now; empty if there is none.

    :raises MaintenanceError: when its file cannot be read.
    """
    path = Path(settings.drain_file or "/nonexistent")
    try:
        found = json.loads(path.read_bytes())
        begin, end = (
            datetime.fromisoformat(found[each]).astimezone(UTC) for each in ("refuse", "end")
        )
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MaintenanceError(f"{path}: {error!r}") from error
    applies = begin <= host.now() < end
    # A notice that was sent before this drain was set belongs to another one.
    since = max(begin, written.replace(microsecond=0))
    return {"text": found.get("text", ""), "since": since, "end": end} if applies else {}


def ready_at(noticed: datetime, minutes: int) -> datetime:
    """Return from when on sessions may be ended that have had a notice of so many minutes."""
    return noticed + timedelta(minutes=minutes)


def send_notice(settings: Settings, message: str, minutes: int) -> str:
    """Show all running sessions that they will be ended; return the result in words.

    :param minutes: after how many minutes they may be ended.
    :raises MaintenanceError: when no drain applies: people would start new sessions at once.
    """
    if not read_drain(settings):
        raise MaintenanceError(
            "no drain applies now: sessions that start later would get no notice"
        )
    answer = operator.call(settings, "POST", "notice", {"message": message})
    record = {"sent": host.now().isoformat(), "minutes": minutes, "failed": answer["failed"]}
    host.write(NOTICE, json.dumps(record), 0o600)
    lines = [f"{answer['sent']} sessions have shown the notice."]
    lines += [f"not shown: {each}" for each in answer["failed"]]
    lines.append(f"They may be ended from {ready_at(host.now(), minutes):%Y-%m-%d %H:%M} UTC on.")
    return "\n".join(lines)


def end_sessions(settings: Settings) -> str:
    """End all sessions, if they have had their notice; return the result in words.

    :raises MaintenanceError: when no drain applies, there was no notice in it, or its time is not
        over; then no session is ended.
    """
    drain = read_drain(settings)
    if not drain:
        raise MaintenanceError("no drain applies now, so no session is ended")
    try:
        record = json.loads(NOTICE.read_bytes())
        sent, minutes = datetime.fromisoformat(record["sent"]), int(record["minutes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MaintenanceError(
            "the sessions have had no notice, so none is ended; send one with drain_notice"
        ) from error
    if sent < drain["since"]:
        raise MaintenanceError(
            f"the last notice, at {sent:%Y-%m-%d %H:%M} UTC, was before this drain began, so no "
            "session is ended; send one with drain_notice"
        )
    if host.now() < (ready := ready_at(sent, minutes)):
        raise MaintenanceError(
            f"the sessions were told that they have {minutes} minutes, until "
            f"{ready:%Y-%m-%d %H:%M} UTC; until then, none is ended"
        )
    NOTICE.unlink(missing_ok=True)
    return end_now(settings)


def end_now(settings: Settings) -> str:
    """End all sessions, without notice; return the result in words.

    :raises MaintenanceError: when the hub does not answer, or a session cannot be ended.
    """
    answer = operator.call(settings, "POST", "end")
    lines = [f"{answer['asked']} sessions were asked to end."]
    lines += [f"not ended: {each}" for each in answer["failed"]]
    if answer["failed"]:
        raise MaintenanceError("\n".join(lines))
    return "\n".join(lines)


def all_sessions(settings: Settings) -> list[dict[str, Any]]:
    """Return all sessions: as the hub knows them, or, if it is down, those that run.

    :raises MaintenanceError: when neither the hub nor its database answers.
    """
    try:
        return list(operator.call(settings, "GET", "status")["sessions"])
    except MaintenanceError:
        return probes.running_sessions(settings.sessions)


#: After the authorities were replaced, the hub may certify sessions with the old ones for so long,
#: until it is restarted.
_UNTIL_RESTART = timedelta(minutes=15)


def older_sessions(settings: Settings, moment: str) -> list[str]:
    """Return the sessions that may have a certificate of an authority that was replaced.

    A session whose beginning is not known counts as older.

    :param moment: when the authorities were replaced.
    :raises MaintenanceError: when the time is none, or the sessions are not known.
    """
    try:
        limit = datetime.fromisoformat(moment) + _UNTIL_RESTART
    except ValueError as error:
        raise MaintenanceError(f"{moment!r} is no time in the form of ISO 8601") from error
    return [
        f"{each['user']} {each['name']}".strip() + f" (job {each['job']}, since {began or '?'})"
        for each in all_sessions(settings)
        if not (began := each.get("started", "")) or datetime.fromisoformat(began) <= limit
    ]
