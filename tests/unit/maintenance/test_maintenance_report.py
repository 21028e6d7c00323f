"""The report, which is kept across a reboot."""

from __future__ import annotations

from gridhub.maintenance import mail, publish
from gridhub.maintenance import report as reports
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.report import Report
from gridhub.maintenance.settings import Settings


def test_a_failed_step_does_not_stop_the_others(report: Report) -> None:
    with report.step("one") as notes:
        notes.append("said")
        raise MaintenanceError("broken")
    with report.step("two"):
        pass
    assert not report.ok
    assert report.failed_steps() == [{"name": "one", "ok": False, "words": "said\nbroken"}]
    assert mail.report_text(report.data).splitlines()[-4:] == [
        "FAILED: one",
        "  said",
        "  broken",
        "ok: two",
    ]


def test_a_report_continues_after_a_boot_until_it_is_closed(report: Report) -> None:
    report.enter_phase("rebooting")
    again = Report.load(Report.UNFINISHED)
    assert again is not None and again.data == report.data
    publish.close(Settings(), again, "done")
    assert Report.load(Report.UNFINISHED) is None
    last = Report.load(Report.LAST)
    assert last is not None and last.data["result"] == "done"
    # Only the owner may read the report, which contains the output of the site's own commands.
    assert (reports.STATE / Report.LAST).stat().st_mode & 0o777 == 0o600
