"""A directory service for tests: accounts with several names, and groups with several names."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from types import SimpleNamespace

import pytest


class FakeDirectory:
    """Answers the look-ups of :mod:`gridhub.accounts`; other names are those of the real host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.accounts: dict[str, pwd.struct_passwd] = {}
        self.own: dict[int, pwd.struct_passwd] = {}
        self.groups: dict[str, SimpleNamespace] = {}
        self.members: dict[str, set[str]] = {}
        #: Whether the service does not answer.
        self.down = False
        real = SimpleNamespace(pwnam=pwd.getpwnam, pwuid=pwd.getpwuid, grnam=grp.getgrnam)
        real.grgid, real.grouplist = grp.getgrgid, os.getgrouplist

        def getpwnam(name: str) -> pwd.struct_passwd:
            if self.down:
                raise KeyError(name)
            return self.accounts.get(name) or real.pwnam(name)

        def getpwuid(uid: int) -> pwd.struct_passwd:
            if self.down:
                raise KeyError(uid)
            return self.own.get(uid) or real.pwuid(uid)

        def getgrnam(name: str) -> object:
            if self.down:
                raise KeyError(name)
            return self.groups.get(name) or real.grnam(name)

        def getgrgid(gid: int) -> object:
            found = [each for each in self.groups.values() if each.gr_gid == gid]
            return found[0] if found and not self.down else real.grgid(gid)

        def getgrouplist(name: str, gid: int) -> list[int]:
            if name not in self.accounts:
                return real.grouplist(name, gid)
            mine = [each.gr_gid for each in self.groups.values() if name in each.gr_mem]
            return [gid, *(mine if not self.down else [])]

        monkeypatch.setattr(pwd, "getpwnam", getpwnam)
        monkeypatch.setattr(pwd, "getpwuid", getpwuid)
        monkeypatch.setattr(grp, "getgrnam", getgrnam)
        monkeypatch.setattr(grp, "getgrgid", getgrgid)
        monkeypatch.setattr(os, "getgrouplist", getgrouplist)
        monkeypatch.setattr(
            "gridhub.accounts._lookup_error", lambda name: errno.EAGAIN if self.down else 0
        )

    def add(
        self, name: str, *others: str, uid: int = 4711, gid: int = 0, home: str = "/home/person"
    ) -> pwd.struct_passwd:
        """Add an account with its own name and other names; the other names have own entries."""
        gid = gid or os.getgid() or 4711
        for each in (name, *others):
            self.accounts[each] = pwd.struct_passwd((each, "x", uid, gid, "", home, "/bin/sh"))
        self.own[uid] = self.accounts[name]
        return self.own[uid]

    def add_group(self, name: str, *others: str, gid: int, members: set[str]) -> None:
        """Add a group with its own name and other names."""
        for each in (name, *others):
            self.groups[each] = SimpleNamespace(gr_name=each, gr_gid=gid, gr_mem=members)
