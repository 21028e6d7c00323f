# SPDX-License-Identifier: BSD-3-Clause
"""Check the account that a request names, then switch to this account permanently."""

from __future__ import annotations

import os
import pwd
import subprocess

from gridhub.broker.config import Config
from gridhub.words import text


class Refused(Exception):
    """A request that the broker refuses; the message is for the person.

    ``kind``, ``words`` and ``note`` are those of the broker's :class:`Answer`.
    """

    def __init__(self, kind: str, message: str, words: str = "", note: str = "") -> None:
        super().__init__(message)
        self.kind, self.words, self.note = kind, words, note


def check_person(config: Config, user: pwd.struct_passwd) -> None:
    """Check that an account belongs to a person; the broker may switch only to such accounts.

    :raises Refused: for root, for accounts in root's group, and for system accounts.
    """
    if user.pw_uid == 0 or user.pw_gid == 0:
        raise Refused("refused", text("account.root"))
    if user.pw_uid < config.minimum_uid:
        raise Refused("refused", text("account.system", name=user.pw_name))


def check_account(config: Config, user: pwd.struct_passwd, groups: frozenset[str]) -> None:
    """Check that a person may have sessions.

    A request to stop a session skips this check.

    :raises Refused: for people whom the inventory does not name.
    """
    if user.pw_name not in config.allowed_users and not groups & config.allowed_groups:
        raise Refused("refused", text("account.not_here", name=user.pw_name))


def become(user: pwd.struct_passwd) -> None:
    """Switch this process to a person's account permanently, without a way back to root.

    :raises RuntimeError: when the process could still switch back to root.
    """
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    if os.getresuid() != (user.pw_uid,) * 3 or os.getresgid() != (user.pw_gid,) * 3:
        raise RuntimeError("could not give up root")
    os.umask(0o077)
    os.chdir("/")  # qsub also reads .sge_request in the working directory


def run_as_person(
    config: Config, user: pwd.struct_passwd, name: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a Grid Engine command as the person, with a clean environment and a time limit.

    :raises Refused: when the command cannot be started or exceeds the time limit.
    """
    environment = config.grid.environment() | {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
    }
    # A request file with -V passes this environment on to the session. Without any setting, the
    # messages are English too.
    del environment["LC_ALL"]
    try:
        return subprocess.run(
            [config.grid.command(name), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=config.timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused("grid", text("grid.slow", seconds=f"{config.timeout:g}")) from error
    except OSError as error:
        raise Refused("broker", text("grid.no_command", command=name, reason=error)) from error
