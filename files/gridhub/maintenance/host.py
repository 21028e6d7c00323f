# SPDX-License-Identifier: BSD-3-Clause
"""The host: its commands, files, clock, processes, boots and disks.

The other modules call these functions through the module (``host.run(...)``), so that a test can
replace any of them in one place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from gridhub.maintenance.errors import MaintenanceError

#: Time limits in seconds: ``QUICK`` for an ordinary command, ``LONG`` for a repair of the packages
#: and for the site's own backup.
QUICK, LONG = 60.0, 1800.0

_QUIET = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}


def in_memory(content: bytes) -> IO[bytes]:
    """Return a file for a command's standard input, which never reaches the disk."""
    file = os.fdopen(os.memfd_create("input"), "wb+")
    file.write(content)
    file.seek(0)
    return file


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
    """Run a command and return its standard output.

    :param seconds: time limit; a slower command gets SIGTERM and some time to clean up.
    :param named: the command's name in messages, if its arguments may be confidential.
    :param reads: the command's standard input; without this parameter, it is empty.
    :param writes: where the command's standard output goes; the result is then empty.
    :raises MaintenanceError: when the command cannot be run or is too slow; if ``check`` is set,
        also when the command fails, with the end of its output in the message.
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
            # Do not kill the command: unattended-upgrade stops by itself after its current package,
            # and a half-installed package is worse than a delay.
            process.communicate(timeout=max(seconds / 4, 5))
        except subprocess.TimeoutExpired as error:
            raise MaintenanceError(f"{named}: does not end, and is left running") from error
        raise MaintenanceError(f"{named}: not done within {seconds:g} s") from None
    if check and process.returncode:
        output = (errors.strip() or (out or "").strip()).splitlines()[-12:]
        raise MaintenanceError("\n".join([f"{named}: exit status {process.returncode}", *output]))
    return out or ""


def write(path: Path, text: str, mode: int) -> None:
    """Replace a file atomically, so that readers see either the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary name contains the process number, because the maintenance and the notice's timer
    # may write the same file at the same time.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError:  # a full disk
        fresh.unlink(missing_ok=True)
        raise


def allocate(path: Path, size: int) -> None:
    """Make a file that takes disk space and has no content; replace one that is there."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def now() -> datetime:
    """Return the current time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def process_start(number: int) -> str:
    """Return a process's start time in the kernel's ticks; empty if there is no such process.

    Process numbers are reused. Together with the start time, a number is unique within one boot.
    """
    try:
        shown = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return shown.rpartition(")")[2].split()[19]


def boot_id() -> str:
    """Return an identifier of this boot.

    The kernel's identifier changes when the machine reboots. When only a container restarts, the
    start time of its first process changes, so the result contains both.
    """
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{kernel}/{process_start(1)}"


def wait_until_clear(problem: Callable[[], str], seconds: float, pause: float = 2.0) -> str:
    """Call ``problem`` until it returns "" or the time is up; return its last result."""
    deadline = time.monotonic() + seconds
    while (found := problem()) and time.monotonic() < deadline:
        time.sleep(pause)
    return found


def check_disk(free_mb: int, backup_folder: str) -> None:
    """Check that there is room for the updates and the backup.

    :raises MaintenanceError: naming the folders that are too full.
    """
    folders = ["/", "/boot", "/usr", "/var/cache/apt/archives", "/var/lib/dpkg", "/var/log"]
    folders.append(backup_folder)
    full = []
    for folder in filter(None, folders):
        path = Path(folder)
        while not path.exists():
            path = path.parent
        free = shutil.disk_usage(path).free // 2**20
        # /boot is usually small, and needs room only for a kernel.
        if free < (min(free_mb, 200) if folder == "/boot" else free_mb):
            full.append(f"{folder} has {free} MB free")
    if full:
        raise MaintenanceError(
            f"{', '.join(full)}; maintenance_free_mb requires {free_mb} MB: free some space"
        )


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Lock a folder against a second maintenance run; yield whether this run has the lock."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
