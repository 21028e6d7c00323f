"""Packages of dnf and rpm; a stub answers for their commands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gridhub.maintenance import dnf, host, packages
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report

Answers = dict[str, str | MaintenanceError]
Stub = Callable[[Answers], list[str]]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Answer commands by a word in them; return the list of all commands that are run."""

    def answer_with(answers: Answers) -> list[str]:
        ran: list[str] = []

        def run(command: list[str], *, check: bool = True, **_: object) -> str:
            ran.append(" ".join(command))
            for word, answer in answers.items():
                if word in ran[-1]:
                    if isinstance(answer, MaintenanceError) and check:
                        raise answer
                    return str(answer)
            return ""

        monkeypatch.setattr(dnf, "is_used", lambda: True)
        monkeypatch.setattr(host, "run", run)
        return ran

    return answer_with


def test_a_host_with_several_kernels_names_all_their_versions() -> None:
    shown = "bash.x86_64 5.1.8-9.el9\nkernel.x86_64 5.14.0-503\nkernel.x86_64 5.14.0-427\n"
    assert dnf.parse_versions(shown) == {
        "bash.x86_64": "5.1.8-9.el9",
        "kernel.x86_64": "5.14.0-427, 5.14.0-503",
    }


def test_updates_are_installed_by_dnf_automatic_and_no_command_of_apt_runs(
    stub: Stub, report: Report
) -> None:
    ran = stub({"rpm": "bash.x86_64 5.1.8-9\n"})
    with report.step("updates") as notes:
        packages.update(10, 3600, notes)
    assert f"dnf-automatic {dnf.CONFIGURATION}" in ran
    assert not [command for command in ran if "apt" in command or "dpkg" in command]
    assert report.data["steps"][0]["words"] == "nothing was updated"


def test_a_failed_update_is_reported(stub: Stub, report: Report) -> None:
    stub({"dnf-automatic": MaintenanceError("dnf-automatic: exit status 1")})
    with report.step("updates") as notes:
        packages.update(10, 3600, notes)
    assert not report.ok
    assert "exit status 1" in report.data["steps"][0]["words"]


def test_updates_are_installed_even_if_another_source_cannot_be_read(
    stub: Stub, report: Report
) -> None:
    ran = stub({"makecache": MaintenanceError("dnf: Failed to download metadata for repo 'x'")})
    with report.step("updates") as notes:
        packages.update(10, 3600, notes)
    assert f"dnf-automatic {dnf.CONFIGURATION}" in ran
    assert not report.ok
    assert "metadata for repo 'x'" in report.data["steps"][0]["words"]


def test_packages_that_are_installed_twice_are_repaired(stub: Stub, report: Report) -> None:
    answers: Answers = {"check": MaintenanceError("bash-5.1.8-6 is a duplicate")}
    ran = stub(answers)
    with (
        report.step("repair") as notes,
        pytest.raises(MaintenanceError, match="cannot be repaired"),
    ):
        packages.repair(notes)
    assert "dnf --assumeyes --quiet remove --duplicates" in ran
    assert packages.problem() == "bash-5.1.8-6 is a duplicate"
    answers.clear()
    with report.step("nothing to repair") as notes:
        packages.repair(notes)
    assert notes == []


@pytest.mark.parametrize(
    ("answer", "reboots"), [("", False), (MaintenanceError("exit status 1"), True)]
)
def test_dnf_decides_whether_a_reboot_is_required(
    stub: Stub, answer: str | MaintenanceError, reboots: bool
) -> None:
    stub({"needs-restarting": answer})
    assert packages.needs_reboot() is reboots


def test_the_plan_lists_the_updates(stub: Stub) -> None:
    stub({"check-update": "\nbash.x86_64   5.1.8-9   baseos\n"})
    assert packages.planned() == ["bash.x86_64   5.1.8-9   baseos"]


def test_this_host_has_apt() -> None:
    """Debian has a package of dnf; a host with both is one of apt."""
    assert not dnf.is_used()
