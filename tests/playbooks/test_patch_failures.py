"""One run of ``playbooks/patch_workers.yml`` on many workers, most of them with a problem."""

from __future__ import annotations

import pytest

from patching import Site, reported

#: Workers that lose Grid Engine during the run. For each: the command after which Grid Engine
#: cannot be reached, whether the worker is maintained, and whether its queue stays disabled.
LOST = {
    "list": ("qselect -q", False, False),
    "disable": ("qmod -d", False, True),
    "wait": ("qstat -g", False, True),
    "back": ("qhost -h", True, True),
    "enable": ("qmod -e", True, False),
}

#: States of an execution daemon after the reboot: it does not run, the qmaster refuses it for good,
#: or the qmaster refuses it only at first.
DAEMONS = ("gone", "refused", "begins")

UNKNOWN = "; whether its queues are enabled is not known, Grid Engine does not answer on admin-"
#: What the report says about each of the workers in LOST.
STATES = {
    "list": "list was not maintained. Check that Grid Engine answers: Grid Engine does not",
    "disable": f"disable was not maintained{UNKNOWN}disable",
    "wait": f"wait was not maintained{UNKNOWN}wait",
    "back": "back failed after its maintenance had begun, so it gets no new jobs, and no further "
    f"worker was begun{UNKNOWN}back",
    "enable": f"enable{UNKNOWN}enable",
}


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, str]:
    """Run the playbook once on all these workers; return the workers and the report."""
    workers: dict[str, dict[str, object]] = {
        "well": {},
        "busy": {},
        "away": {},
        "late": {"patch_window_minutes": 0},
        "stuck": {},
        "fails": {"becomes": "fails"},
        "refuses": {"becomes": "refuses"},
        "broken": {"becomes": "fails"},
        "held": {},
        "kept": {},
        "left": {},
        "flickers": {},
        **{name: {} for name in DAEMONS},
        **{name: {} for name in LOST},
    }
    site = Site(tmp_path_factory.mktemp("site"), workers)
    (site.folder / "jobs/busy").write_text("42 of alice\n", encoding="utf-8")
    (site.folder / "lost/away").touch()
    (site.folder / "stuck/stuck").touch()
    (site.folder / "disabled/all.q@kept").touch()
    (site.folder / "disabled/all.q@left").touch()
    (site.folder / "notes/left/disabled-queues").write_text("all.q@left\n", encoding="utf-8")
    # An earlier run left this worker's queue disabled, and this run fails as well.
    (site.folder / "disabled/all.q@broken").touch()
    (site.folder / "notes/broken/disabled-queues").write_text("all.q@broken\n", encoding="utf-8")
    for name in DAEMONS:
        (site.folder / "daemon" / name).write_text(name, encoding="utf-8")
    (site.folder / "broken/flickers").write_text("qmod -d\nonce\n", encoding="utf-8")
    for name, (command, _, _) in LOST.items():
        (site.folder / "broken" / name).write_text(f"{command}\n", encoding="utf-8")
    return site, site.patch(patch_at_once="100%")


def test_a_worker_without_jobs_is_maintained_and_takes_jobs_again(
    trouble: tuple[Site, str],
) -> None:
    site, shown = trouble
    assert {"well", "kept", "begins"} <= site.maintained
    assert not {"all.q@well", "all.q@busy", "all.q@refuses", "all.q@flickers"} & site.disabled
    assert reported("well", shown) == reported("kept", shown) == reported("begins", shown) == ""
    assert "all.q@kept" in site.disabled  # an administrator disabled it before the run
    # An interrupted earlier run of the playbook had disabled the queue of ``left``. It is enabled
    # only after the maintenance.
    assert "left" in site.maintained and "all.q@left" not in site.disabled
    turns = [line for line in site.log if line in ("maintain left", "qmod -e all.q@left")]
    assert turns == ["maintain left", "qmod -e all.q@left"]
    # At the end, only queues that are still disabled have a note. No queue was disabled before its
    # note was written.
    assert site.noted == {"stuck", "fails", "broken", "gone", "refused"} | (LOST.keys() - {"list"})
    assert not (site.folder / "unnoted").exists()
    # A parallel job that began on another worker may have tasks on this worker. Such tasks also
    # keep this worker in use, but qstat shows them only with -g t.
    assert all("-g t" in line for line in site.log if line.startswith("qstat"))


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        ("busy", "busy was not maintained; its queues are enabled again. Check that the last job"),
        ("busy", "42 of alice"),
        (
            "away",
            "away was not maintained. Check that the worker can be reached: away cannot be reached",
        ),
        (
            "held",
            "held was not maintained. Check that the maintenance is not held: "
            "held until 2126-01-31: exams",
        ),
        # qmod disabled the queue of this worker, but qmod's answer was lost.
        ("flickers", "flickers was not maintained; its queues are enabled again. Check that no"),
        ("late", "late was not maintained. Check that there is time left: the 0 minutes"),
    ],
)
def test_a_worker_that_must_not_be_maintained_is_skipped_and_reported_with_the_reason(
    trouble: tuple[Site, str], worker: str, words: str
) -> None:
    site, shown = trouble
    assert worker not in site.maintained
    assert words in reported(worker, shown)


def test_the_trouble_of_each_worker_is_reported(trouble: tuple[Site, str]) -> None:
    site, shown = trouble
    assert "refuses was not maintained; its queues are enabled" in reported("refuses", shown)
    assert "stuck; still disabled: all.q@stuck (qmod -e)" in reported("stuck", shown)
    assert "all.q@stuck" in site.disabled


@pytest.mark.parametrize("worker", ["fails", "broken"])
def test_the_queues_of_a_worker_that_fails_after_its_maintenance_has_begun_stay_disabled(
    trouble: tuple[Site, str], worker: str
) -> None:
    site, shown = trouble
    assert f"all.q@{worker}" in site.disabled
    assert f"qmod -e all.q@{worker}" not in site.log
    words = reported(worker, shown)
    assert f"{worker} failed after its maintenance had begun" in words
    assert f"still disabled: all.q@{worker} (qmod -e)" in words
    assert "Maintain, as the test says: " in words and f"Repair {worker}" in words
    left = words.partition("--limit ")[2].partition(";")[0].split(",")
    assert {"busy", "away", "refuses", worker} <= {*left} and not {"well", "kept"} & {*left}


@pytest.mark.parametrize("worker", LOST)
def test_a_lost_grid_engine_is_reported_and_no_worker_goes_down_without_its_answer(
    trouble: tuple[Site, str], worker: str
) -> None:
    site, shown = trouble
    _, maintained, disabled = LOST[worker]
    assert (worker in site.maintained) is maintained
    assert (f"all.q@{worker}" in site.disabled) is disabled
    assert STATES[worker] in reported(worker, shown)


@pytest.mark.parametrize(
    ("worker", "words"), [("gone", "cannot find connection"), ("refused", "info: OK")]
)
def test_a_worker_whose_execution_daemon_is_not_back_is_lost_despite_an_old_load(
    trouble: tuple[Site, str], worker: str, words: str
) -> None:
    site, shown = trouble
    assert worker in site.maintained and worker in site.noted
    assert f"still disabled: all.q@{worker}" in reported(worker, shown)
    assert words in reported(worker, shown)
