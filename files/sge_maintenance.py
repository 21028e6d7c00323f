#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The monthly maintenance of a host: updates, a reboot, and a check of what came back.

It runs with the host's own Python and nothing but the standard library: on a host that has no hub,
and while packages are being changed. ``jupyterhub-maintenance.timer`` starts it, and is the only
place that knows the dates: what it announces it reads from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

TIMER = "jupyterhub-maintenance.timer"
CONFIG = Path("/etc/gridhub/maintenance.json")
HOLD = Path("/etc/gridhub/hold-maintenance")
STATE = Path("/var/lib/gridhub-maintenance")
LOGS = Path("/var/log/gridhub-maintenance")
#: As old as the timer is in its present form: nothing can have been missed before.
INSTALLED = Path(f"/etc/systemd/system/{TIMER}")
REBOOT_REQUIRED = Path("/run/reboot-required")

#: How long after its time a maintenance may still begin. A machine that was off, paused or asleep
#: at 03:26 does not reboot in the middle of the day.
LATEST = timedelta(minutes=30)

#: A second start within this time is the same maintenance: a clock that was set back, an hour that
#: comes twice.
TOGETHER = timedelta(hours=12)

#: How long a reboot may take, from the order to the checks; one that takes longer does not come.
REBOOT = timedelta(minutes=30)

#: What all but the updates may take before the reboot. A maintenance that is not as far by then
#: hangs, on a file system that does not answer for example: it keeps no session out any more.
ALL_ELSE = timedelta(hours=3)

#: How this program calls itself for what is to have a limit, or another account.
PROGRAM = (sys.executable, "-sE", __file__)

#: How a backup's name ends before it has been read again.
UNFINISHED_COPY = ".unfinished"

#: How many logs are kept.
LOGS_KEPT = 24

#: How long an ordinary command may take, in seconds; and the repair of an interrupted installation.
QUICK, REPAIR = 60.0, 1800.0

#: How long each copy for the backup may take, in seconds: a database that stays locked, or a file
#: system that does not answer, does not keep the maintenance waiting for good.
COPY = 600.0

_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")
#: What unattended-upgrade says of packages it leaves as they are.
_LEFT_OUT = re.compile(r"conffile prompt|kept back|\b(WARNING|ERROR)\b")
_QUIET = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}


class MaintenanceError(Exception):
    """A step went wrong; the message says what, and what would be right."""


# -- what the role has written -------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """``/etc/gridhub/maintenance.json``, which the role maintenance writes."""

    #: Whether the host has the timer; else it is maintained by playbook only, and misses no date.
    timer: bool = True
    #: ``always`` or ``when_required``.
    reboot: str = "always"
    #: Seconds the updates may take.
    time_limit: int = 3600
    #: Free space each file system must have before, in MB.
    free_mb: int = 1000
    #: Minutes to wait for another update to end.
    lock_wait: int = 10
    announce_days: int = 7
    refuse_minutes: int = 10
    expected_minutes: int = 20
    #: What the hub's pages read; empty on a host without a hub.
    notice_file: str = ""
    backup_folder: str = ""
    backup_keep: int = 6
    #: The hub's SQLite database; empty where there is none.
    database: str = ""
    backup_paths: Sequence[str] = ()
    #: What runs a command as the hub: what is the hub's own is read with no more than its rights.
    as_hub: Sequence[str] = ()
    #: What backs up a database that is not SQLite.
    backup_command: Sequence[str] = ()
    #: What prints the running sessions (``files/sge_sessions.py``); empty on a host without a hub.
    sessions: Sequence[str] = ()
    #: Minutes the services have to come back.
    check_minutes: int = 10
    units: Sequence[str] = ()
    #: Addresses that must answer with 200.
    urls: Sequence[str] = ()
    #: By what name a host of them is to be asked, where it answers to another one only.
    names: Mapping[str, str] = field(default_factory=dict)
    verify_tls: bool = True
    #: The proxy's address, through which people reach their sessions; empty: nobody looks there.
    proxy: str = ""
    #: Whether each person's sessions have a host name of their own, below the public one.
    user_subdomains: bool = False
    #: The command that asks Grid Engine for all jobs, as XML; empty: it is not asked.
    qstat: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Whose session is started and stopped in the end, and the file with that account's API token.
    canary_user: str = ""
    canary_token: str = ""
    hub_api: str = ""
    #: The folder of the certificates with which the hub speaks inside the cluster (``sge_tls.py``).
    certificates: str = ""
    metrics_file: str = ""
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
        what = min(unknown) if isinstance(data, dict) else data
        raise MaintenanceError(f"{path}: there is no setting {what!r}")
    settings = Settings(**data)
    for name in known:
        value, default = getattr(settings, name), getattr(Settings(), name)
        kind = (list, tuple) if isinstance(default, tuple) else type(default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise MaintenanceError(f"{path}: {name} cannot be {value!r}")
        if isinstance(value, int) and value < 0:
            raise MaintenanceError(f"{path}: {name} must not be negative, and is {value}")
    if settings.backup_keep < 1:
        raise MaintenanceError(f"{path}: backup_keep must be at least 1: the one that is made")
    if settings.reboot not in ("always", "when_required"):
        raise MaintenanceError(
            f"{path}: reboot must be 'always' or 'when_required', not {settings.reboot!r}"
        )
    return settings


# -- dates ---------------------------------------------------------------------------------------


#: systemd up to 252 says ``Iter. #2``, newer ones ``Iteration #2``.
_ELAPSE = re.compile(
    r"^\s*(Next elapse|Iter(?:\.|ation) #\d+|\(in UTC\)):"
    r" \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"
)


def parse_dates(shown: str) -> list[datetime]:
    """Read the dates that ``systemd-analyze calendar`` has printed; in UTC.

    Where this host's zone is not UTC, each date stands there twice, the second time in UTC.
    """
    dates: list[datetime] = []
    for line in shown.splitlines():
        if found := _ELAPSE.match(line):
            date = datetime.fromisoformat(found[2]).replace(tzinfo=UTC)
            if found[1] == "(in UTC)":
                dates[-1] = date
            else:
                dates.append(date)
    return dates


def parse_timer(shown: str) -> str:
    """Return the calendar expression of a timer's ``TimersCalendar``.

    :raises MaintenanceError: when the timer has none, or several.
    """
    found = re.findall(r"OnCalendar=(.*?) ;", shown)
    if len(found) != 1:
        raise MaintenanceError(
            f"{TIMER} must have one OnCalendar and has {len(found)}: run the role maintenance again"
        )
    return str(found[0])


def zone_of(calendar: str) -> ZoneInfo | None:
    """Return the zone a calendar expression names; ``None``: it goes by this host's clock."""
    last = calendar.rpartition(" ")[2]
    if not re.fullmatch(r"[A-Za-z][A-Za-z_+-]*(/[A-Za-z0-9_+-]+)*", last):
        return None
    return ZoneInfo(last)


def due(dates: Sequence[datetime], now: datetime) -> datetime | None:
    """Return the date whose time it is now, if there is one."""
    return next((date for date in dates if date <= now < date + LATEST), None)


def calendar() -> str:
    """Return the calendar expression of the timer as systemd has loaded it."""
    return parse_timer(run(["systemctl", "show", "--property=TimersCalendar", TIMER]))


def dates(expression: str, since: datetime, count: int) -> list[datetime]:
    """Ask systemd for the dates of an expression after a time, in UTC."""
    base = f"--base-time={since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return parse_dates(
        run(["systemd-analyze", "calendar", f"--iterations={count}", base, expression])
    )


# -- the hold file -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """Why there is to be no maintenance, and until when."""

    reason: str
    until: datetime

    def holds(self, moment: datetime) -> bool:
        """Whether it still counts then."""
        return moment < self.until


def parse_hold(text: str) -> Hold:
    """Read a hold file: a line ``reason: TEXT`` and a line ``until: 2030-01-31 18:00``.

    :raises MaintenanceError: saying what is missing.
    """
    lines = {
        name.strip().lower(): value.strip()
        for name, sign, value in (line.partition(":") for line in text.splitlines())
        if sign
    }
    if not lines.get("reason"):
        raise MaintenanceError(f"{HOLD} must have a line 'reason: TEXT'")
    try:
        until = datetime.fromisoformat(lines.get("until", "")).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MaintenanceError(
            f"{HOLD} must have a line 'until: 2030-01-31 18:00', not {lines.get('until')!r}"
        ) from error
    return Hold(lines["reason"], until)


def read_hold() -> Hold | None:
    """Return the hold, if there is one, expired or not.

    :raises MaintenanceError: when it cannot be read; nothing is done then.
    """
    try:
        return parse_hold(HOLD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise MaintenanceError(f"{HOLD}: {error}") from error


# -- the notice on the hub's pages ----------------------------------------------------------------


def notice(settings: Settings, start: datetime, zone: ZoneInfo | None) -> dict[str, Any]:
    """Return what the hub's pages tell of a maintenance (``files/sge_notice.py`` reads it)."""
    end = start + timedelta(minutes=settings.expected_minutes)

    def clock(moment: datetime) -> dict[str, str]:
        local = moment.astimezone(zone)
        return {"date": f"{local:%Y-%m-%d}", "time": f"{local:%H:%M %Z}"}

    return {
        "show": (start - timedelta(days=settings.announce_days)).isoformat(),
        "refuse": (start - timedelta(minutes=settings.refuse_minutes)).isoformat(),
        # The pages mark the day itself; a day has 24 hours here, whatever clocks do on it.
        "day": start.astimezone(zone).replace(hour=0, minute=0, second=0).isoformat(),
        "end": end.isoformat(),
        "begins": clock(start),
        "ends": clock(end),
    }


def tell(settings: Settings, start: datetime | None) -> None:
    """Put the next maintenance, or none, where the hub's pages look for it."""
    if not settings.notice_file:
        return
    path = Path(settings.notice_file)
    if start is None:
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(MaintenanceError):
        expression = calendar()
        write(path, json.dumps(notice(settings, start, zone_of(expression)), indent=1), 0o644)


def next_date(now: datetime) -> tuple[datetime | None, str]:
    """Return the next maintenance, if there is to be one, and why there is none."""
    if run(["systemctl", "is-active", TIMER], check=False).strip() != "active":
        return None, f"{TIMER} is not active"
    coming = dates(calendar(), now, 1)
    if not coming:
        return None, f"{TIMER} has no further date"
    try:
        hold = read_hold()
    except MaintenanceError as error:
        return None, str(error)
    if hold and hold.holds(coming[0]):
        return None, f"held until {hold.until:%Y-%m-%d %H:%M} UTC: {hold.reason}"
    return coming[0], ""


# -- commands and files ---------------------------------------------------------------------------


def run(
    command: Sequence[str],
    *,
    seconds: float = QUICK,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
    named: str = "",
    reads: IO[bytes] | None = None,
    writes: IO[bytes] | None = None,
) -> str:
    """Run a command and return what it printed on standard output.

    :param seconds: after them it is told to end, with time to leave things in order.
    :param named: what to call it, where its arguments may be nobody else's business.
    :param reads: its standard input, instead of nothing.
    :param writes: where its standard output goes, instead of into what is returned.
    :raises MaintenanceError: with what it said, when it fails and ``check`` is set, or is too slow.
    """
    named = named or " ".join(command[:4])
    try:
        process = subprocess.Popen(
            command,
            stdin=reads or subprocess.DEVNULL,
            stdout=writes or subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **_QUIET, **(environment or {})},
        )
    except OSError as error:
        raise MaintenanceError(f"{named}: {error}") from error
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            # unattended-upgrade ends after the package it is at. Nothing is killed here: a package
            # that is half installed is worse than a late one.
            process.communicate(timeout=max(seconds / 4, 5))
        except subprocess.TimeoutExpired as error:
            raise MaintenanceError(f"{named}: does not end, and is left running") from error
        raise MaintenanceError(f"{named}: not done within {seconds:g} s") from None
    if check and process.returncode:
        said = (errors.strip() or (out or "").strip()).splitlines()[-12:]
        raise MaintenanceError("\n".join([f"{named}: exit status {process.returncode}", *said]))
    return out or ""


def write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole; nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A maintenance and the notice's timer may be at the same file.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def now() -> datetime:
    """Return the time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def process_start(number: int) -> str:
    """Return when a process began, by the kernel's clock; nothing: there is none.

    With its number it tells a process from all others of this boot: numbers come again.
    """
    try:
        shown = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return shown.rpartition(")")[2].split()[19]


def boot_id() -> str:
    """Return what tells one boot from another: in a container the host's own does not change."""
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{kernel}/{process_start(1)}"


# -- the report ----------------------------------------------------------------------------------


class Report:
    """What has been done, for people and for the next boot."""

    UNFINISHED = "unfinished.json"
    LAST = "report.json"

    def __init__(self, started: datetime, *, by_hand: bool, longest: timedelta = ALL_ELSE) -> None:
        #: Everything is plain: it is JSON, and outlives the boot.
        self.data: dict[str, Any] = {
            "host": socket.gethostname(),
            "started": started.isoformat(),
            "by_hand": by_hand,
            "boot": boot_id(),
            "process": os.getpid(),
            "phase": "before",
            "reached": started.isoformat(),
            "overdue": (started + longest).isoformat(),
            "result": "",
            "steps": [],
            "sessions": [],
            "log": str(LOGS / f"{started:%Y-%m-%dT%H%M%S}.log"),
        }

    @classmethod
    def load(cls, name: str) -> Report | None:
        """Read the report that was written last, if there is one."""
        try:
            data = json.loads((STATE / name).read_bytes())
        except (OSError, ValueError):
            return None
        report = cls.__new__(cls)
        report.data = data
        return report

    def say(self, words: str) -> None:
        """Tell the journal, and the log that a person can read."""
        print(words, flush=True)
        # On a full disk the journal has to do.
        with contextlib.suppress(OSError):
            LOGS.mkdir(mode=0o750, exist_ok=True)
            with Path(self.data["log"]).open("a", encoding="utf-8") as log:
                for line in words.splitlines():
                    log.write(f"{now():%Y-%m-%d %H:%M:%S} UTC  {line}\n")

    def phase(self, name: str) -> None:
        """Write down how far it is: the next boot goes on from there."""
        self.data["phase"], self.data["reached"] = name, now().isoformat()
        self.data["process_start"] = process_start(os.getpid())
        write(STATE / self.UNFINISHED, json.dumps(self.data, indent=1), 0o600)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Do a step, and write down what came of it; what goes wrong does not end the rest."""
        notes: list[str] = []
        step: dict[str, Any] = {"name": name, "ok": True, "words": ""}
        try:
            yield notes
        except (MaintenanceError, OSError, ValueError, sqlite3.Error, tarfile.TarError) as error:
            step["ok"] = False
            notes.append(str(error))
        step["words"] = "\n".join(notes)
        self.data["steps"].append(step)
        mark = "ok" if step["ok"] else "FAILED"
        self.say("\n  ".join([f"{mark}: {name}", *step["words"].splitlines()]))

    @property
    def ok(self) -> bool:
        """Whether all steps went well."""
        return all(step["ok"] for step in self.data["steps"])

    def goes_on(self) -> bool:
        """Whether it is at work on this boot, and has not come to the reboot or the checks."""
        return (
            self.data["boot"] == boot_id()
            and self.data["phase"] in ("before", "updating")
            and self._is_at_work()
        )

    def awaits_reboot(self, minutes: int) -> bool:
        """Whether it has left this boot to its end, and not longer ago than it usually takes."""
        since = datetime.fromisoformat(self.data["reached"])
        return (
            self.data["boot"] == boot_id()
            and self.data["phase"] == "rebooting"
            and now() < since + timedelta(minutes=minutes)
        )

    def runs(self) -> bool:
        """Whether it is under way: it was not killed, and the host is not stuck at its reboot."""
        if self.data["phase"] == "rebooting":
            return now() < datetime.fromisoformat(self.data["reached"]) + REBOOT
        return self.goes_on() or (self.data["phase"] == "checking" and self._is_at_work())

    def _is_at_work(self) -> bool:
        # The lock would tell as well; but to try it could keep out one that begins just then.
        has_process = process_start(self.data["process"]) == str(self.data["process_start"])
        return has_process and now() < datetime.fromisoformat(self.data["overdue"])

    def failed(self) -> list[dict[str, Any]]:
        """Return the steps that went wrong."""
        return [step for step in self.data["steps"] if not step["ok"]]

    def close(self, settings: Settings, result: str) -> None:
        """Write the report down for good, and tell whoever is to know."""
        self.data["result"], self.data["ended"] = result, now().isoformat()
        self.say(f"The maintenance of {self.data['host']}: {result}.")
        try:
            for old in sorted(LOGS.glob("*.log"))[:-LOGS_KEPT]:
                old.unlink()
            write(STATE / self.LAST, json.dumps(self.data, indent=1), 0o600)
            (STATE / self.UNFINISHED).unlink(missing_ok=True)
            write_metrics(settings)
        except (OSError, MaintenanceError) as error:
            self.say(f"FAILED: the report: {error}")
        if settings.mail_to and (settings.mail_always or result != "done"):
            try:
                mail(settings, self)
            except (OSError, smtplib.SMTPException) as error:
                self.say(f"FAILED: mail to {settings.mail_to}: {error}")


def words(report: Mapping[str, Any]) -> str:
    """Return a report as a person reads it."""
    lines = [
        f"Maintenance of {report['host']}: {report['result'] or report['phase']}",
        f"Started {report['started']}, ended {report.get('ended', 'not yet')}.",
        f"Log: {report['log']}",
    ]
    for step in report["steps"]:
        lines.append(f"{'ok' if step['ok'] else 'FAILED'}: {step['name']}")
        lines += [f"  {line}" for line in step["words"].splitlines()]
    return "\n".join(lines)


def mail(settings: Settings, report: Report) -> None:
    """Send a report."""
    message = EmailMessage()
    message["Subject"] = f"Maintenance of {report.data['host']}: {report.data['result']}"
    message["From"] = settings.mail_from or f"root@{socket.getfqdn()}"
    message["To"] = settings.mail_to
    message.set_content(words(report.data))
    host, _, port = settings.mail_server.partition(":")
    with smtplib.SMTP(host, int(port or 25), timeout=30) as server:
        server.send_message(message)


def metrics(report: Mapping[str, Any] | None, coming: datetime | None, missed: bool) -> str:
    """Return the numbers for node_exporter's textfile collector."""
    numbers: list[tuple[str, str, float]] = [
        (
            "gridhub_maintenance_next_timestamp_seconds",
            "When the next maintenance begins; 0: none is to come.",
            coming.timestamp() if coming else 0,
        ),
        (
            "gridhub_maintenance_missed",
            "Whether the last date passed without a maintenance.",
            missed,
        ),
    ]
    if report:
        ended = datetime.fromisoformat(report["ended"]).timestamp()
        failed = sum(not step["ok"] for step in report["steps"])
        numbers += [
            ("gridhub_maintenance_last_timestamp_seconds", "When the last one ended.", ended),
            (
                "gridhub_maintenance_last_success",
                "Whether all of the last one went well.",
                report["result"] == "done",
            ),
            ("gridhub_maintenance_last_failed_steps", "Steps that went wrong.", failed),
        ]
    return "".join(
        f"# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {float(value):g}\n"
        if value < 1e6
        else f"# HELP {name} {meaning}\n# TYPE {name} gauge\n{name} {value:.0f}\n"
        for name, meaning, value in numbers
    )


def is_missed(past: Sequence[datetime], since: datetime, last: datetime | None) -> bool:
    """Whether a date has passed, since the timer is there, for which there is no report."""
    return any(date >= since and (last is None or last < date) for date in past)


def installed() -> datetime:
    """Return since when the timer has its present date."""
    return datetime.fromtimestamp(INSTALLED.stat().st_mtime, UTC)


def missed(moment: datetime) -> bool:
    """Whether the timer's last date passed without a maintenance: the host was off, for example.

    One that still runs has no report yet, and is none that was missed.
    """
    unfinished = Report.load(Report.UNFINISHED)
    if unfinished and unfinished.runs():
        return False
    past = [
        date
        for date in dates(calendar(), moment - timedelta(days=40), 8)
        if date + LATEST <= moment
    ]
    report = Report.load(Report.LAST)
    # One by hand may have been under way at the date.
    last = datetime.fromisoformat(report.data["ended"]) if report else None
    return is_missed(past[-1:], installed(), last)


def write_metrics(settings: Settings) -> None:
    """Write the numbers."""
    if settings.metrics_file:
        report = Report.load(Report.LAST)
        text = metrics(
            report.data if report else None, next_date(now())[0], settings.timer and missed(now())
        )
        write(Path(settings.metrics_file), text, 0o644)


# -- packages ------------------------------------------------------------------------------------


def packages() -> dict[str, str]:
    """Return the version of every package that is there, by name."""
    shown = run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${binary:Package} ${Version}\n"]
    )
    rows = (line.split() for line in shown.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Say which packages are other ones than before."""
    return [
        f"{name}: {before.get(name, 'not there')} -> {after.get(name, 'removed')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def trouble_with_packages() -> str:
    """Return what is wrong with the packages that are there, or nothing."""
    if any(path.name.isdigit() for path in Path("/var/lib/dpkg/updates").iterdir()):
        return "dpkg was interrupted"
    if found := run(["dpkg", "--audit"], check=False).strip():
        return found
    try:
        run(["apt-get", "check", "-qq"])
    except MaintenanceError as error:
        return str(error)
    return ""


def make_packages_whole(notes: list[str]) -> None:
    """Finish an installation that was interrupted.

    :raises MaintenanceError: when that does not help. The host must not reboot then.
    """
    if not (found := trouble_with_packages()):
        return
    notes.append(f"repaired: {found}")
    keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    failures = []
    for command in (
        ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"],
        ["apt-get", "-y", "-qq", "--no-remove", *keep, "install", "--fix-broken"],
    ):
        try:
            run(command, seconds=REPAIR)
        except MaintenanceError as error:
            failures.append(str(error))
    if found := trouble_with_packages():
        notes.pop()
        raise MaintenanceError("\n".join(["the packages cannot be repaired", found, *failures]))


def lock_holder() -> str:
    """Return which lock of dpkg and apt another program holds, or nothing."""
    for name in _LOCKS:
        try:
            with Path(name).open("rb+") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except OSError:
            return name
    return ""


def wait_for(what: Callable[[], str], seconds: float, pause: float = 2.0) -> str:
    """Wait until a look finds nothing wrong; return what it found last."""
    deadline = time.monotonic() + seconds
    while (found := what()) and time.monotonic() < deadline:
        time.sleep(pause)
    return found


# -- the steps -----------------------------------------------------------------------------------


def check_disk(settings: Settings) -> None:
    """Make sure that there is room for the updates and the backup.

    :raises MaintenanceError: naming the folders that are too full.
    """
    folders = ["/", "/boot", "/usr", "/var/cache/apt/archives", "/var/lib/dpkg", "/var/log"]
    folders.append(settings.backup_folder)
    short = []
    for folder in filter(None, folders):
        path = Path(folder)
        while not path.exists():
            path = path.parent
        free = shutil.disk_usage(path).free // 2**20
        # /boot is small everywhere, and holds no more than a kernel.
        if free < (min(settings.free_mb, 200) if folder == "/boot" else settings.free_mb):
            short.append(f"{folder} has {free} MB free")
    if short:
        raise MaintenanceError(
            f"{', '.join(short)}; maintenance_free_mb asks for {settings.free_mb} MB: make room"
        )


def check_hold() -> Hold | None:
    """Return the hold that counts now, if there is one."""
    hold = read_hold()
    return hold if hold and hold.holds(now()) else None


def back_up(settings: Settings, started: datetime) -> str:
    """Copy the hub's database and the configuration, read the copies again, and keep the newest.

    :raises MaintenanceError: when a copy is not what it should be.
    """
    folder = Path(settings.backup_folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = f"{started:%Y-%m-%dT%H%M%S}"
    made, copies = [], []
    for cut_off in folder.glob(f"*{UNFINISHED_COPY}"):
        cut_off.unlink()
    with contextlib.ExitStack() as undo:

        def begun(kind: str) -> Path:
            """Return a name that nobody takes for a backup before it has been read again."""
            copy = folder / f"{stamp}{kind}{UNFINISHED_COPY}"
            undo.callback(copy.unlink, missing_ok=True)
            copies.append(copy)
            return copy

        if settings.backup_command:
            run(settings.backup_command, seconds=REPAIR, named=settings.backup_command[0])
            made.append(f"{settings.backup_command[0]} succeeded; its copy is not read again here")
        if settings.database:
            copy = begun(".sqlite")
            copy_database(settings, copy)
            made.append(f"{copy.with_suffix('')} ({copy.stat().st_size} bytes)")
        if kept := [path for path in map(Path, settings.backup_paths) if path.exists()]:
            copy = begun(".tar.gz")
            command = [*PROGRAM, "pack", str(copy), settings.notice_file, *map(str, kept)]
            count = run(command, seconds=COPY, named=f"packing {', '.join(map(str, kept))}")
            made.append(f"{copy.with_suffix('')} ({count.strip()} files)")
        for copy in copies:
            copy.replace(copy.with_suffix(""))
        undo.pop_all()
    for kind in ("*.sqlite", "*.tar.gz"):
        for old in sorted(folder.glob(kind))[: -settings.backup_keep]:
            old.unlink()
    return "\n".join(made)


def copy_database(settings: Settings, copy: Path) -> None:
    """Copy a SQLite database that is in use, and read the copy again.

    The database is the hub's, and with it whatever stands under its name: root opens none of it.

    :raises MaintenanceError: when the copy is not whole, or takes too long.
    """
    as_hub = [*settings.as_hub, *PROGRAM]
    with os.fdopen(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "rb+") as file:
        run(
            [*as_hub, "print-database", settings.database],
            seconds=COPY,
            named=f"copying {settings.database}",
            writes=file,
        )
        file.seek(0)
        run(
            [*as_hub, "check-database"],
            seconds=COPY,
            named=f"reading the copy of {settings.database}",
            reads=file,
        )


def print_database(source: str) -> None:
    """Write a copy of a SQLite database to standard output."""
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=1)) as old,
        contextlib.closing(sqlite3.connect(":memory:")) as new,
    ):
        # While another program has it locked, it tries again for ever: whoever calls has a limit.
        old.backup(new)
        copy = bytearray(new.serialize())
    if copy:
        # "File format version numbers" of sqlite.org/fileformat2.html: 2 for a database with a
        # write-ahead log, which the copy has none of.
        copy[18:20] = b"\1\1"
    sys.stdout.buffer.write(copy)


def check_database() -> None:
    """Look whether the database that comes in is a hub's, and whole.

    :raises MaintenanceError: when it is not.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(sys.stdin.buffer.read())
        found = copy.execute("PRAGMA integrity_check").fetchall()
        tables = copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'users'").fetchone()
    if found != [("ok",)] or tables != (1,):
        raise MaintenanceError(f"it is not whole: {found}")


def _hash(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def copy_files(paths: Sequence[Path], copy: Path, notice_file: str = "") -> int:
    """Pack files and folders, and compare the pack with them; return how many files it has.

    :param notice_file: is left out: the notice's timer writes it anew meanwhile.
    :raises MaintenanceError: naming the file that is not the same.
    """
    notice_path = Path(notice_file)
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as pack:
        for path in (each for top in paths for each in (top, *sorted(top.rglob("*")))):
            # With what stands beside it while it is written; others may have its name elsewhere.
            is_notice = path.name == notice_path.name or path.match(f".{notice_path.name}.*")
            if not (notice_file and path.parent == notice_path.parent and is_notice):
                pack.add(path, recursive=False)
    count = 0
    with tarfile.open(copy) as pack:
        for member in pack:
            packed = pack.extractfile(member) if member.isfile() else None
            if packed is None:
                continue
            count += 1
            with Path("/", member.name).open("rb") as now_there:
                if _hash(packed) != _hash(now_there):
                    raise MaintenanceError(f"/{member.name} is not in {copy} as it is on disk")
    if not count:
        raise MaintenanceError(f"{copy} is empty")
    return count


def update(settings: Settings, notes: list[str]) -> None:
    """Install the updates that unattended-upgrades may install.

    :raises MaintenanceError: when the archive cannot be read, or a package not be installed.
    """
    # The backup may have taken long.
    if found := wait_for(lock_holder, settings.lock_wait * 60):
        raise MaintenanceError(f"another program holds {found}")
    unread: MaintenanceError | None = None
    try:
        run(["apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any"], seconds=600)
    except MaintenanceError as error:
        unread = error  # what the other sources have is installed nevertheless
    before, said = packages(), ""
    try:
        said = run(["unattended-upgrade", "--verbose"], seconds=settings.time_limit)
    finally:
        notes += changes(before, packages()) or ["nothing was updated"]
        notes += [str(unread)] if unread else []
    # It calls that a success.
    notes += [line for line in said.splitlines() if _LEFT_OUT.search(line)]
    if "conffile prompt" in said:
        raise MaintenanceError(
            "a package is kept back because a file of its was changed: Dpkg::Options must have"
            " --force-confold (/etc/apt/apt.conf.d/52gridhub-maintenance)"
        )
    if unread:
        raise MaintenanceError("not every source of packages could be read")


def running_sessions(settings: Settings) -> list[dict[str, Any]]:
    """Return the sessions that the hub's database has as running: whose, where, and which job.

    :raises MaintenanceError: when it cannot be read.
    """
    shown = run(settings.sessions)
    try:
        return list(json.loads(shown.splitlines()[-1]))
    except (ValueError, IndexError) as error:
        raise MaintenanceError(
            f"{' '.join(settings.sessions)} says no sessions: {error}"
        ) from error


# -- the check afterwards ------------------------------------------------------------------------


def inside(settings: Settings, authority: str) -> ssl.SSLContext:
    """Return how the hub itself speaks with those that an authority of its own has certified.

    :raises OSError: when a certificate cannot be read.
    """
    folder = Path(settings.certificates)
    trusted = folder / authority / f"{authority}.crt"
    certificate, key = (folder / f"hub-internal/hub-internal.{kind}" for kind in ("crt", "key"))
    # The folder is the hub's. What is no file there, a pipe for example, might never end.
    if wrong := [str(path) for path in (trusted, certificate, key) if not path.is_file()]:
        raise OSError(f"{', '.join(wrong)}: there is no such file")
    context = ssl.create_default_context(cafile=trusted)
    # Hosts are asked by their addresses here; the authority certifies nobody but ours.
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    return context


def outside(settings: Settings) -> ssl.SSLContext:
    """Return how people's browsers speak, as far as certificates go."""
    context = ssl.create_default_context()
    if not settings.verify_tls:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connect(url: str, context: ssl.SSLContext, seconds: float) -> http.client.HTTPConnection:
    """Return a connection, not yet open, to the host of an address."""
    target = urlsplit(url)
    if target.scheme == "https":
        return http.client.HTTPSConnection(
            target.hostname or "", target.port, timeout=seconds, context=context
        )
    return http.client.HTTPConnection(target.hostname or "", target.port, timeout=seconds)


def status_of(url: str, context: ssl.SSLContext, name: str = "") -> int:
    """Return the status with which an address answers, asked by another name where there is one.

    :raises OSError: when nothing answers, or the certificate is not right.
    """
    link = connect(url, context, 10)
    try:
        link.request("GET", urlsplit(url).path or "/", headers={"Host": name} if name else {})
        return link.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(f"{error!r}") from error
    finally:
        link.close()


def trouble_with_url(settings: Settings, url: str) -> str:
    """Return what is wrong with an address, or nothing."""
    hub = settings.hub_api and urlsplit(url).netloc == urlsplit(settings.hub_api).netloc
    try:
        context = inside(settings, "hub-ca") if hub else outside(settings)
        status = status_of(url, context, settings.names.get(urlsplit(url).netloc, ""))
    except OSError as error:
        return f"{url}: {error}"
    return "" if status == 200 else f"{url}: status {status}"


def trouble_with_units(units: Sequence[str]) -> str:
    """Return which units are not active, or nothing."""
    shown = run(["systemctl", "is-active", *units], check=False).split()
    down = [unit for unit, state in zip(units, shown, strict=False) if state != "active"]
    return f"not active: {', '.join(down)}" if down or len(shown) < len(units) else ""


def ask_grid_engine(settings: Settings) -> set[str]:
    """Return the numbers of all jobs Grid Engine has."""
    shown = run(settings.qstat, seconds=15, environment=settings.environment)
    if "</job_info>" not in shown:
        raise MaintenanceError(f"{settings.qstat[0]}: no answer that can be read")
    return set(re.findall(r"<JB_job_number>(\d+)</JB_job_number>", shown))


def trouble_with_grid_engine(settings: Settings) -> str:
    """Return what is wrong with Grid Engine, or nothing."""
    try:
        ask_grid_engine(settings)
    except MaintenanceError as error:
        return str(error)
    return ""


def trouble_with_session(settings: Settings, session: Mapping[str, Any]) -> str:
    """Return why a session cannot be reached, or nothing."""
    host = f"[{session['host']}]" if ":" in session["host"] else session["host"]
    try:
        address = f"{session['scheme']}://{host}:{session['port']}{session['path']}api"
        status = status_of(address, inside(settings, "notebooks-ca"))
    except OSError as error:
        return f"{session['user']} {session['name']} (job {session['job']}): {error}"
    # Whatever the session's server says, it is there.
    return "" if status < 500 else f"{session['user']} (job {session['job']}): status {status}"


def trouble_with_route(settings: Settings, session: Mapping[str, Any]) -> str:
    """Return why people do not reach a session where they look for it, or nothing.

    A Jupyter server tells everybody its version there. Without a route the hub answers, which sends
    everybody to pages of its own.
    """
    if not settings.proxy:
        return ""
    place = urlsplit(settings.proxy).netloc
    name = settings.names.get(place, place)
    if settings.user_subdomains:
        name = f"{session['label']}.{name}"
    try:
        status = status_of(f"{settings.proxy}{session['path']}api", outside(settings), name)
        found = "" if status == 200 else f"status {status}, which is not the session's own answer"
    except OSError as error:
        found = str(error)
    where = f"through {settings.proxy}" if name == place else f"through {settings.proxy} as {name}"
    return found and f"{session['user']} (job {session['job']}) {where}: {found}"


def check_sessions(
    settings: Settings,
    before: Sequence[Mapping[str, Any]],
    notes: list[str],
    seconds: float = 60,
) -> None:
    """Look whether every session that ran before is still reachable, and known to the hub.

    :param seconds: how long it may take until they are: the proxy's host may still boot.
    :raises MaintenanceError: naming those that are not.
    """
    everyone = {each["job"] for each in before}

    def there() -> set[str]:
        return ask_grid_engine(settings) & everyone if settings.qstat else everyone

    def lost(session: Mapping[str, Any], known: set[str]) -> str:
        if session["job"] not in known:
            return f"{session['user']} (job {session['job']}): the hub has forgotten it"
        return trouble_with_session(settings, session) or trouble_with_route(settings, session)

    def look() -> str:
        try:
            jobs, known = there(), {each["job"] for each in running_sessions(settings)}
            found = {each["job"]: lost(each, known) for each in before if each["job"] in jobs}
            # One that has ended while it was looked for is not lost.
            jobs = there() if any(found.values()) else jobs
        except MaintenanceError as error:
            return str(error)
        return "\n".join(words for job, words in found.items() if words and job in jobs)

    found = wait_for(look, seconds)
    ended = everyone - there()
    notes.append(f"{len(everyone)} sessions ran before, and {len(everyone) - len(ended)} still do")
    if ended:
        notes.append(f"ended meanwhile: jobs {', '.join(sorted(ended))}")
    if found:
        raise MaintenanceError(found)
    # One or the other comes to its end in these minutes. If most do, something has ended them.
    if len(ended) >= 2 and len(ended) * 2 > len(everyone):
        raise MaintenanceError(
            "more than half of the sessions have ended: did the hub delete them?"
        )


def call_hub(settings: Settings, method: str, path: str) -> tuple[int, dict[str, Any]]:
    """Call the hub's REST API as the account whose session is tried; return status and answer.

    :raises OSError: when it does not answer.
    """
    target = urlsplit(settings.hub_api)
    token = Path(settings.canary_token).read_text(encoding="utf-8").strip()
    link = connect(settings.hub_api, inside(settings, "hub-ca"), 60)
    try:
        link.request(method, target.path + path, headers={"Authorization": f"token {token}"})
        answer = link.getresponse()
        body = json.loads(answer.read() or b"{}")
    except http.client.HTTPException as error:
        raise OSError(f"{settings.hub_api}: {error!r}") from error
    finally:
        link.close()
    return answer.status, body if isinstance(body, dict) else {}


def start_and_stop(settings: Settings, seconds: float) -> str:
    """Start a session as people do, wait until it is ready, and stop it; return how long it took.

    :raises MaintenanceError: with what the hub said, when that does not work.
    """
    user = f"/users/{settings.canary_user}"

    def session() -> dict[str, Any]:
        status, body = call_hub(settings, "GET", user)
        if status != 200:
            raise MaintenanceError(f"the hub says {status} {body.get('message', '')}")
        return dict(body.get("servers", {}).get("") or {})

    def refused() -> str:
        status, body = call_hub(settings, "POST", f"{user}/server")
        return "" if status in (201, 202) else f"{status} {body.get('message', '')}"

    # The notice goes first, because it keeps sessions from starting; the hub looks at it every few
    # seconds.
    tell(settings, next_date(now())[0])
    begun = time.monotonic()
    if found := wait_for(refused, 10):
        raise MaintenanceError(f"it does not start: {found}")
    try:
        if wait_for(lambda: "" if session().get("ready") else "not ready", seconds):
            raise MaintenanceError(f"it was not ready within {seconds:.0f} s")
        took = time.monotonic() - begun
    finally:
        call_hub(settings, "DELETE", f"{user}/server")
    if wait_for(lambda: "not gone" if session() else "", 120):
        raise MaintenanceError("it does not stop within 120 s")
    return f"ready after {took:.0f} s"


def check_services(settings: Settings, report: Report) -> None:
    """Look at everything people need; each look has until the deadline, for hosts boot together."""
    deadline = time.monotonic() + settings.check_minutes * 60

    def look(what: Callable[[], str]) -> None:
        if found := wait_for(what, max(deadline - time.monotonic(), 0)):
            raise MaintenanceError(found)

    if settings.units:
        with report.step(f"the services run: {', '.join(settings.units)}"):
            look(lambda: trouble_with_units(settings.units))
    for url in settings.urls:
        with report.step(f"{url} answers"):
            look(lambda url=url: trouble_with_url(settings, url))  # type: ignore[misc]
    if settings.qstat:
        with report.step("Grid Engine answers"):
            look(lambda: trouble_with_grid_engine(settings))
    if report.data["sessions"]:
        with report.step("the sessions that ran before still run") as notes:
            left = max(deadline - time.monotonic(), 60)
            check_sessions(settings, report.data["sessions"], notes, left)
    if settings.canary_user:
        with report.step(f"a session of {settings.canary_user} starts and stops") as notes:
            notes.append(start_and_stop(settings, max(deadline - time.monotonic(), 120)))


# -- the whole -----------------------------------------------------------------------------------


def prepare(settings: Settings, report: Report, started: datetime) -> bool:
    """Do what must be right before anything is changed; return whether it is."""
    with report.step("no other update is running"):
        if found := wait_for(lock_holder, settings.lock_wait * 60):
            raise MaintenanceError(
                f"another program holds {found}, for more than {settings.lock_wait} minutes"
            )
    with report.step("there is room on the disks"):
        check_disk(settings)
    if not report.ok:
        return False
    with report.step("the packages are whole") as notes:
        make_packages_whole(notes)
    if settings.backup_folder:
        with report.step("a backup is made and read again") as notes:
            notes.append(back_up(settings, started))
    note_sessions(settings, report)
    return report.ok


def note_sessions(settings: Settings, report: Report) -> None:
    """Note which sessions run, for the check after the reboot."""
    if settings.sessions:
        with report.step("the running sessions are noted") as notes:
            report.data["sessions"] = running_sessions(settings)
            notes.append(f"{len(report.data['sessions'])} sessions run")


def untimely(moment: datetime) -> str:
    """Return why the timer should not have started a maintenance now, or nothing."""
    date = due(dates(calendar(), moment - LATEST, 4), moment)
    # A timer that gets another date fires at once where that has passed since it was last started.
    if date is None or date < installed():
        return f"This is no time for it: the next one is {next_date(moment)[0]}."
    last = Report.load(Report.LAST)
    if last and not last.data["by_hand"]:
        before = datetime.fromisoformat(last.data["started"])
        if moment - before < TOGETHER:
            return f"There was one at {before}."
    return ""


def maintain(settings: Settings, *, by_hand: bool, reboots: bool = True) -> int:
    """Do the maintenance; return the exit status.

    :param by_hand: somebody wants it now: neither the date nor an earlier one is asked for.
    :param reboots: whether the host reboots by itself, or somebody else does that now.
    """
    started = now()
    if not by_hand and (why := untimely(started)):
        print(f"{why} Nothing is done.")
        return announce(settings)
    longest = timedelta(seconds=settings.time_limit) + ALL_ELSE
    report = Report(started, by_hand=by_hand, longest=longest)
    report.say(f"The maintenance of {report.data['host']} begins.")
    try:
        if hold := check_hold():
            report.say(f"Held until {hold.until:%Y-%m-%d %H:%M} UTC: {hold.reason}")
            report.close(settings, "held")
            return 0
    except MaintenanceError as error:
        with report.step("the hold file can be read"):
            raise error
        return give_up(settings, report)
    try:
        report.phase("before")
        # As of now no session starts, also where nobody has announced it.
        tell(settings, started)
        if not prepare(settings, report, started):
            return give_up(settings, report)
        report.phase("updating")
        with report.step("the updates are installed") as notes:
            update(settings, notes)
        with report.step("the packages are whole") as notes:
            make_packages_whole(notes)
        if trouble_with_packages():
            # What is half installed may not boot again; as it is, it runs.
            return give_up(settings, report)
        return reboot(settings, report, reboots=reboots)
    except Exception as error:  # whatever it is, somebody has to hear of it
        report.say(traceback.format_exc())
        with report.step("nothing unforeseen happens"):
            raise MaintenanceError(f"{error!r}") from error
        return give_up(settings, report)


def give_up(settings: Settings, report: Report) -> int:
    """End a maintenance that cannot go on, and leave the service as it is."""
    return end(settings, report, "failed, and the host was not rebooted")


def end(settings: Settings, report: Report, result: str) -> int:
    """Write the report down and announce the next maintenance; return the exit status."""
    report.close(settings, result)
    try:
        # Not announce: where no report can be written, this one stands there as if it went on.
        tell(settings, next_date(now())[0])
    except (OSError, MaintenanceError) as error:
        report.say(f"FAILED: the notice of the next maintenance: {error}")
    return 0 if result == "done" else 1


def reboot(settings: Settings, report: Report, *, reboots: bool) -> int:
    """Reboot, as the site wants it, or check at once where there is no need to."""
    if settings.reboot == "when_required" and not REBOOT_REQUIRED.exists():
        report.say("No update asks for a reboot, and this site reboots only when one does.")
        return finish(settings, report)
    tell(settings, now())
    note_sessions(settings, report)
    report.say("The host reboots.")
    report.phase("rebooting")
    if not reboots:
        return 0
    try:
        run(["systemctl", "reboot", "--no-block"])
    except MaintenanceError as error:
        with report.step("the host reboots"):
            raise error
        return give_up(settings, report)
    return 0


def finish(settings: Settings, report: Report) -> int:
    """Check the services, and end the maintenance."""
    report.data["process"] = os.getpid()  # after a boot it is another one
    report.data["overdue"] = (
        now() + timedelta(minutes=settings.check_minutes) + ALL_ELSE
    ).isoformat()
    with contextlib.suppress(OSError):
        report.phase("checking")
    try:
        check_services(settings, report)
    except Exception as error:
        report.say(traceback.format_exc())
        with report.step("nothing unforeseen happens"):
            raise MaintenanceError(f"{error!r}") from error
    return end(settings, report, "done" if report.ok else "failed in part: see what is marked so")


def after_boot(settings: Settings) -> int:
    """Go on where the last boot has left a maintenance."""
    report = Report.load(Report.UNFINISHED)
    if report is None:
        print("No maintenance is unfinished.")
        return 0
    if report.data["boot"] == boot_id():
        print("The host has not been rebooted since the maintenance began.")
        return 0
    if report.data["phase"] not in ("rebooting", "checking"):
        with report.step("nobody else reboots the host"):
            raise MaintenanceError("the host went down before the updates were done")
    with report.step("the packages are whole") as notes:
        make_packages_whole(notes)
    return finish(settings, report)


def announce(settings: Settings) -> int:
    """Bring the notice of the next maintenance, and the numbers, up to date."""
    report = Report.load(Report.UNFINISHED)
    if report and report.goes_on():
        # It may take longer than expected: no session starts as long as a reboot is to come.
        tell(settings, now())
    elif not (report and report.awaits_reboot(settings.expected_minutes)):
        # Also where one was cut off: what it has left there is of the past.
        tell(settings, next_date(now())[0])
    write_metrics(settings)
    return 0


def held() -> str:
    """Return why nothing would be done now, by hand too, or nothing."""
    try:
        hold = check_hold()
    except MaintenanceError as error:
        return str(error)
    return f"held until {hold.until:%Y-%m-%d %H:%M} UTC: {hold.reason}" if hold else ""


def status(settings: Settings) -> dict[str, Any]:
    """Return what an administrator asks: when is the next one, and what became of the last."""
    moment = now()
    coming, why = next_date(moment)
    unfinished, last = Report.load(Report.UNFINISHED), Report.load(Report.LAST)
    running = unfinished.data["started"] if unfinished and unfinished.runs() else ""
    problems = [why] if why and settings.timer else []
    if settings.timer and missed(moment):
        problems.append("the last date passed without a maintenance: the host was off, or asleep")
    if unfinished and not running:
        problems.append(f"a maintenance is not finished: {unfinished.data['phase']}")
    if last and last.data["result"] not in ("done", "held"):
        problems += [f"{last.data['result']} (log: {last.data['log']})"]
        problems += [f"{each['name']}: {each['words']}" for each in last.failed()]
    return {
        "next": coming.isoformat() if coming else None,
        "held": held(),
        "problems": problems,
        "last": last.data if last else None,
        "running": running,
        "unfinished": bool(unfinished),
        "phase": unfinished.data["phase"] if unfinished else "",
    }


def plan_dates() -> None:
    """Say when the next ones are."""
    expression = calendar()
    print(f"{TIMER}: {expression}")
    zone = zone_of(expression)
    for date in dates(expression, now(), 6):
        print(f"  {date.astimezone(zone):%A %Y-%m-%d %H:%M %Z}")
    coming, why = next_date(now())
    print(f"The next one: {coming.astimezone(zone):%Y-%m-%d %H:%M %Z}" if coming else why)


def plan(settings: Settings) -> int:
    """Say what would happen, and change nothing."""
    if settings.timer:
        plan_dates()
    else:
        print("No timer: it is maintained by playbook only.")
    for name, look in (
        ("another update runs", lock_holder),
        ("the packages are not whole, and would be repaired", trouble_with_packages),
    ):
        if found := look():
            print(f"{name}: {found}")
    if why := held():
        print(f"Now it is not done, by hand neither: {why}")
    try:
        check_disk(settings)
    except MaintenanceError as error:
        print(f"It could not begin: {error}")
    shown = run(["unattended-upgrade", "--dry-run", "--verbose"], seconds=600, check=False)
    print("Updates it would install (and see by itself whether there are newer ones):")
    asked = ("Packages that will be upgraded", "No packages found")
    lines = [line for line in shown.splitlines() if any(words in line for words in asked)]
    for line in lines or ["not known: unattended-upgrade --dry-run does not say"]:
        print(f"  {line.partition(' INFO ')[2] or line}")
    print(f"Reboot: {settings.reboot}")
    return 0


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    """Keep a second one from running at the same time; tell whether this is the first."""
    STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (STATE / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def main(arguments: Sequence[str]) -> int:
    """``sge_maintenance.py run|now|update|after|announce|status|plan``, or ``check FILE``."""
    if len(arguments) == 2 and arguments[0] == "check":
        read_settings(Path(arguments[1]))
        return 0
    try:  # what it calls itself for
        match list(arguments):
            case ["print-database", source]:
                print_database(source)
                return 0
            case ["check-database"]:
                check_database()
                return 0
            case ["pack", copy, notice_file, *paths]:
                print(copy_files([*map(Path, paths)], Path(copy), notice_file))
                return 0
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise MaintenanceError(str(error)) from error
    acts: dict[str, Callable[[Settings], int]] = {
        "run": lambda settings: maintain(settings, by_hand=False),
        "now": lambda settings: maintain(settings, by_hand=True),
        "update": lambda settings: maintain(settings, by_hand=True, reboots=False),
        "after": after_boot,
    }
    if len(arguments) == 1 and arguments[0] in acts:
        settings = read_settings()
        with alone() as first:
            if not first:
                print("A maintenance is already running. Nothing is done.", file=sys.stderr)
                # The timer may be second; who wants one by hand must not believe that this was it.
                return int(arguments[0] in ("now", "update"))
            return acts[arguments[0]](settings)
    if arguments == ["announce"]:
        return announce(read_settings())
    if arguments == ["plan"]:
        return plan(read_settings())
    if arguments == ["status"]:
        print(json.dumps(status(read_settings()), indent=1))
        return 0
    print(main.__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MaintenanceError as trouble:
        print(trouble, file=sys.stderr)
        sys.exit(1)
