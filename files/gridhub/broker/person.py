# SPDX-License-Identifier: BSD-3-Clause
"""Check the account that a request names, then switch to this account permanently."""

from __future__ import annotations

import os
import pwd
import subprocess

from gridhub.accounts import NOBODY, NoAccount, NoAnswer, NotOneName, account_of, is_listed
from gridhub.broker.config import Config
from gridhub.grid.owners import LONGEST_OWNER, refused_part
from gridhub.words import text


class Refused(Exception):
    """A request that the broker refuses; the message is for the person.

    ``kind``, ``words`` and ``note`` are those of the broker's :class:`Answer`.
    """

    def __init__(self, kind: str, message: str, words: str = "", note: str = "") -> None:
        super().__init__(message)
        self.kind, self.words, self.note = kind, words, note


def find_person(config: Config, name: str) -> pwd.struct_passwd:
    """Return the account of a name, if it belongs to a person.

    The broker may switch only to such accounts.

    :raises Refused: for names without an account, for root (under any name), for accounts in root's
        group, and for system accounts.
    """
    try:
        user = account_of(name)
    except NoAccount:
        raise Refused("refused", text("account.missing", name=name)) from None
    except NotOneName as error:
        raise Refused("refused", text("account.not_one_name", reason=error)) from None
    except NoAnswer:
        raise Refused("broker", text("account.no_answer")) from None
    if user.pw_uid == 0 or user.pw_gid == 0:
        raise Refused("refused", text("account.root", name=name))
    if user.pw_uid < config.minimum_uid or user.pw_uid in NOBODY:
        raise Refused("refused", text("account.system", name=user.pw_name))
    return user


def check_account(config: Config, user: pwd.struct_passwd, groups: frozenset[str]) -> None:
    """Check that a person may have sessions.

    A request to stop a session skips this check.

    :param groups: the account's groups, under the names that the inventory uses.
    :raises Refused: for people whom the inventory does not name.
    """
    if not groups & config.allowed_groups and not is_listed(user, config.allowed_users):
        raise Refused("refused", text("account.not_here", name=user.pw_name))


def check_owner(user: pwd.struct_passwd) -> None:
    """Check that Grid Engine takes an account as the owner of a job.

    :raises Refused: when it does not.
    """
    name = user.pw_name
    if part := refused_part(name):
        raise Refused("refused", text("account.bad_name", name=name, part=part))
    if len(name) > LONGEST_OWNER:
        raise Refused("refused", text("account.long_name", name=name, most=LONGEST_OWNER))


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
