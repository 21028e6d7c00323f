"""Updates of packages, and how the report names the packages."""

from __future__ import annotations

import pytest

from gridhub.maintenance import host, packages
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report


def test_changed_packages_are_named() -> None:
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert packages.changes(before, after) == [
        "b: 1 -> 2",
        "c: 1 -> removed",
        "d: not there -> 1",
    ]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("INFO Packages that will be upgraded: a", []),
        ("WARNING package b upgradable but fails to be marked for upgrade", ["fails to be marked"]),
        ("INFO Package c is kept back because a related package is", ["c is kept back"]),
        ("WARNING Package d has conffile prompt and needs", ["d has conffile", "--force-confold"]),
    ],
)
def test_a_package_that_is_not_updated_is_named(
    output: str, words: list[str], report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        host, "run", lambda command, **_: output if "unattended" in command[0] else ""
    )
    monkeypatch.setattr(packages, "lock_holder", lambda: "")
    with report.step("updates") as notes:
        packages.update(10, 3600, notes)
    lines = report.data["steps"][0]["words"].splitlines()
    assert lines[0] == "nothing was updated" and len(lines) == 1 + len(words)
    assert all(word in line for word, line in zip(words, lines[1:], strict=True))
    assert report.ok is ("conffile" not in output)


def test_updates_are_installed_even_if_another_source_cannot_be_read(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(command: list[str], **_: object) -> str:
        ran.append(command[0])
        if command[:2] == ["apt-get", "update"]:
            raise MaintenanceError("apt-get update: the key of that archive has expired")
        return ""

    monkeypatch.setattr(host, "run", run)
    monkeypatch.setattr(packages, "lock_holder", lambda: "")
    with report.step("updates") as notes:
        packages.update(10, 3600, notes)
    assert "unattended-upgrade" in ran
    assert not report.ok
    assert "the key of that archive has expired" in report.data["steps"][0]["words"]


def test_an_update_that_began_during_the_backup_is_waited_for(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(host, "run", lambda command, **_: ran.append(command[0]) or "")
    monkeypatch.setattr(packages, "lock_holder", lambda: "/var/lib/apt/lists/lock")
    with pytest.raises(MaintenanceError, match="another program holds /var/lib/apt/lists/lock"):
        packages.update(0, 3600, [])
    assert ran == []
