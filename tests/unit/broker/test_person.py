# SPDX-License-Identifier: BSD-3-Clause
"""Which accounts may have sessions, and how the broker switches to such an account."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys

import pytest

from asked import as_root
from fake_directory import FakeDirectory
from folders import FILES
from gridhub.accounts import group_names
from gridhub.broker.config import Config
from gridhub.broker.person import Refused, become, check_account, check_owner, find_person


class TestAccounts:
    def account(self, name: str = "alice", uid: int = 4711) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", uid, uid, "", "/home/alice", "/bin/sh"))

    def test_groups_are_those_of_the_system(self) -> None:
        user = pwd.getpwuid(os.getuid())
        found = subprocess.run(
            ["id", "-Gn", "--", user.pw_name], capture_output=True, text=True, check=True
        )
        assert group_names(user) == set(found.stdout.split())
        assert grp.getgrgid(user.pw_gid).gr_name in group_names(user)

    def test_a_group_without_a_name_is_ignored(self) -> None:
        used = {entry.gr_gid for entry in grp.getgrall()}
        nameless = next(gid for gid in range(4_000_000, 4_000_500) if gid not in used)
        user = pwd.getpwuid(os.getuid())
        odd = pwd.struct_passwd((user.pw_name, "x", user.pw_uid, nameless, "", "/", "/bin/sh"))
        assert group_names(odd) <= group_names(user)

    def test_a_named_account_may_have_sessions(self, config: Config) -> None:
        check_account(config, self.account(), frozenset())

    def test_a_member_of_a_named_group_may_have_sessions(self, config: Config) -> None:
        config = config.model_copy(update={"allowed_groups": frozenset({"hpc", "lab"})})
        check_account(config, self.account("bob"), frozenset({"users", "lab"}))

    def test_an_account_that_is_not_named_may_not_have_sessions(self, config: Config) -> None:
        with pytest.raises(Refused, match="bob may not have sessions here") as caught:
            check_account(config, self.account("bob"), frozenset({"users"}))
        assert caught.value.kind == "refused"

    @pytest.mark.parametrize("uid", [1, 33, 999])
    def test_a_system_account_may_not_have_sessions_even_when_named(
        self, config: Config, directory: FakeDirectory, uid: int
    ) -> None:
        directory.add("alice", uid=uid)
        with pytest.raises(Refused, match="alice is a system account"):
            find_person(config, "alice")

    def test_an_account_with_the_lowest_allowed_uid_may_have_sessions(
        self, config: Config, directory: FakeDirectory
    ) -> None:
        directory.add("alice", uid=1000)
        assert find_person(config, "alice").pw_uid == 1000

    def test_a_second_name_of_root_is_root(self, config: Config, directory: FakeDirectory) -> None:
        directory.add("root", "toor", uid=0)
        with pytest.raises(Refused, match="toor is root's account"):
            find_person(config, "toor")

    @pytest.mark.parametrize("uid", [65534, 2**32 - 2, 2**32 - 1])
    def test_an_account_without_a_uid_of_its_own_may_not_have_sessions(
        self, config: Config, directory: FakeDirectory, uid: int
    ) -> None:
        directory.add("alice", uid=uid)
        with pytest.raises(Refused, match="alice is a system account"):
            find_person(config, "alice")

    def test_a_name_whose_uid_is_another_persons_is_refused(
        self, config: Config, directory: FakeDirectory
    ) -> None:
        """Grid Engine would run the job as the account that has the uid's name."""
        directory.add("bob", uid=5000)
        directory.add("alice", uid=5001)
        directory.own[5001] = directory.accounts["bob"]
        with pytest.raises(Refused, match="whose name bob belongs to uid 5000"):
            find_person(config, "alice")

    def test_without_a_directory_it_is_not_known_whether_an_account_exists(
        self, config: Config, directory: FakeDirectory
    ) -> None:
        directory.down = True
        with pytest.raises(Refused, match="cannot look up accounts") as caught:
            find_person(config, "no-such-account")
        assert caught.value.kind == "broker"

    def test_the_list_may_have_another_name_of_the_account(
        self, config: Config, directory: FakeDirectory
    ) -> None:
        user = directory.add("ann.smith", "alice")
        check_account(config, user, frozenset())

    def test_names_that_grid_engine_refuses_are_named(self) -> None:
        with pytest.raises(Refused, match="because its name has “@”"):
            check_owner(self.account("ann@example.org"))
        with pytest.raises(Refused, match="more than 127 characters"):
            check_owner(self.account("x" * 128))


class TestBecome:
    def test_failing_to_give_up_root_is_detected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("initgroups", "setresgid", "setresuid"):
            monkeypatch.setattr(os, name, lambda *arguments: None)
        user = pwd.struct_passwd(("alice", "x", os.getuid() + 1, os.getgid(), "", "/", "/bin/sh"))
        with pytest.raises(RuntimeError, match="could not give up root"):
            become(user)

    @as_root
    def test_becoming_a_person_cannot_be_undone(self) -> None:
        script = (
            "import os, pwd, sys\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "from gridhub.broker import person\n"
            "user = pwd.getpwnam('nobody')\n"
            "person.become(user)\n"
            "assert os.getresuid() == (user.pw_uid,) * 3\n"
            "assert os.getresgid() == (user.pw_gid,) * 3\n"
            "assert set(os.getgroups()) <= set(os.getgrouplist(user.pw_name, user.pw_gid))\n"
            "assert os.getcwd() == '/'\n"
            "assert os.umask(0) == 0o077\n"
            "for back in (os.setuid, os.seteuid, os.setgid, os.setegid):\n"
            "    try:\n"
            "        back(0)\n"
            "    except PermissionError:\n"
            "        continue\n"
            "    sys.exit(f'{back} worked')\n"
            "print('for good')\n"
        )
        found = subprocess.run(
            [sys.executable, "-c", script, str(FILES)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout == "for good\n", found.stderr
