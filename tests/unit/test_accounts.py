# SPDX-License-Identifier: BSD-3-Clause
"""One name for each account, whatever names a directory service accepts."""

from __future__ import annotations

import pwd
import threading
import time

import pytest

from fake_directory import FakeDirectory
from gridhub import accounts
from gridhub.accounts import (
    NoAccount,
    NoAnswer,
    NotOneName,
    account_of,
    group_names,
    is_listed,
    own_names,
)


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> FakeDirectory:
    return FakeDirectory(monkeypatch)


class TestAccounts:
    @pytest.mark.parametrize("name", ["ann.smith", "ann", "ANN", "EXAMPLE\\ann"])
    def test_an_account_has_the_name_of_its_uid(self, directory: FakeDirectory, name: str) -> None:
        directory.add("ann.smith", "ann", "ANN", "EXAMPLE\\ann")
        assert account_of(name).pw_name == "ann.smith"

    @pytest.mark.parametrize("name", ["", ".", "..", " ", "a/b", "a:b", "a\nb", "a\0b", "\udcff"])
    def test_no_account_can_have_such_a_name(self, name: str) -> None:
        with pytest.raises(NoAccount):
            account_of(name)

    def test_a_uid_without_a_name_has_no_jobs(self, directory: FakeDirectory) -> None:
        directory.add("ann", uid=4_000_001)
        del directory.own[4_000_001]
        with pytest.raises(NotOneName, match="uid 4000001, which has no name"):
            account_of("ann")

    def test_a_name_that_leads_to_another_account_is_not_that_account(
        self, directory: FakeDirectory
    ) -> None:
        directory.add("bob", uid=5001)
        directory.add("ann", uid=5002)
        directory.own[5002] = directory.accounts["bob"]
        with pytest.raises(NotOneName, match="uid 5002, whose name bob belongs to uid 5001"):
            account_of("ann")

    def test_no_answer_does_not_mean_no_account(self, directory: FakeDirectory) -> None:
        with pytest.raises(NoAccount):
            account_of("no-such-account")
        directory.down = True
        with pytest.raises(NoAnswer):
            account_of("no-such-account")

    def test_the_system_reports_that_there_is_no_such_account(self) -> None:
        assert accounts._lookup_error("no-such-account") == 0
        assert accounts._lookup_error("root") == 0


class TestLists:
    def test_a_list_may_have_any_name(self, directory: FakeDirectory) -> None:
        ann = directory.add("ann.smith", "ann", uid=5001)
        directory.add("ANN", uid=5002)
        assert is_listed(ann, ["no-such-account", "ann"])
        assert is_listed(ann, ["ann.smith"])
        assert not is_listed(ann, ["ANN", "no-such-account", "a/b", ""])

    def test_names_become_the_accounts_own(self, directory: FakeDirectory) -> None:
        directory.add("ann.smith", "ann", "ANN")
        names = ["ann", "ANN", "no-such-account", "a/b", " ", "a\nb"]
        assert own_names(names) == {"ann.smith", "no-such-account"}
        directory.down = True
        assert own_names(["ann", "bob"]) == {"ann", "bob"}

    def test_a_slow_directory_does_not_hold_up_the_lists(
        self, directory: FakeDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = threading.Event()
        monkeypatch.setattr(pwd, "getpwnam", lambda name: answers.wait(10))
        began = time.monotonic()
        assert own_names(["ann", "bob"], limit=0.1) == {"ann", "bob"}
        assert time.monotonic() - began < 5
        answers.set()


class TestGroups:
    def test_a_group_counts_under_the_name_that_a_list_gives_it(
        self, directory: FakeDirectory
    ) -> None:
        ann = directory.add("ann")
        directory.add_group("domain users", "Domain Users", gid=7001, members={"ann"})
        directory.add_group("others", gid=7002, members={"bob"})
        found = group_names(ann, {"Domain Users", "others", "no-such-group"})
        assert {"domain users", "Domain Users"} <= found
        assert not found & {"others", "no-such-group"}
