"""``playbooks/patch_workers.yml``: batches, limits, draining and ``--check``."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from patching import COMMAND, COMMANDS, Site, reported


def test_workers_are_patched_in_batches_of_the_requested_size(
    tmp_path: Path,
) -> None:
    workers: dict[str, dict[str, object]] = {f"w{number}": {} for number in range(1, 4)}
    site = Site(tmp_path, workers)
    shown = site.patch(patch_at_once=2)
    assert site.maintained == set(workers) and not site.disabled and not site.noted
    assert [reported(worker, shown) for worker in workers] == [""] * 3
    most = (tmp_path / "most").read_text(encoding="utf-8").split()
    assert sorted(map(int, most)) == [1, 1, 2]
    order = [line.split() for line in site.log if line.startswith(("qmod -e", "qmod -d"))]
    turns = [sorted({line[2] for line in order[begin : begin + 4]}) for begin in (0, 4)]
    assert turns == [["all.q@w1", "all.q@w2"], ["all.q@w3"]]


def test_a_daemon_that_shows_an_error_is_healthy_with_open_cluster_scheduler_only(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, {"open": {"sge_common_dialect": "ocs"}, "old": {}})
    for name in ("open", "old"):
        (tmp_path / f"daemon/{name}").write_text("warns\n", encoding="utf-8")
    shown = site.patch(patch_at_once=2)
    assert site.maintained == {"open", "old"}
    assert reported("open", shown) == ""
    assert "Wait until the execution daemon has registered" in reported("old", shown)
    assert site.disabled == {"all.q@old"}


def test_check_shows_the_plan_for_each_worker_and_changes_nothing(tmp_path: Path) -> None:
    workers: dict[str, dict[str, object]] = {
        name: {} for name in ("free", "busy", "kept", "left", "away", "deaf")
    }
    site = Site(tmp_path, workers)
    (tmp_path / "jobs/busy").write_text("42 of alice\n", encoding="utf-8")
    for name in ("kept", "left"):
        (tmp_path / f"disabled/all.q@{name}").touch()
    (tmp_path / "notes/left/disabled-queues").write_text("all.q@left\n", encoding="utf-8")
    (tmp_path / "lost/away").touch()
    (tmp_path / "lost/admin-deaf").touch()
    shown = site.patch("--check", patch_at_once=2, patch_drain_minutes=30)

    assert {line.split()[0] for line in site.log} == {"qselect", "qstat"}
    assert site.disabled == {"all.q@kept", "all.q@left"} and site.noted == {"left"}
    for words in (
        "free: together with busy (patch_at_once: 2)",
        "kept: together with left (patch_at_once: 2)",
        "takes no new jobs meanwhile: all.q@free",
        "takes no new jobs meanwhile: all.q@left",
        "takes no new jobs meanwhile: no queue' - 'disabled before, and stays so: all.q@kept'",
        "jobs to wait for, up to 30 minutes: none",
        "jobs to wait for, up to 30 minutes: ' - 42 of alice",
        "then: updates, a reboot (always)",
        "the plan of busy",
    ):
        assert words in site.shown, words
    assert "the plan of away" not in site.shown
    assert reported("busy", shown) == reported("left", shown) == ""
    away = (
        "away would not be maintained. Check that the worker can be reached: away cannot be reached"
    )
    assert away in reported("away", shown)
    assert "deaf would not be maintained. Check that Grid Engine answers" in reported("deaf", shown)


@pytest.mark.parametrize("becomes", ["fails", "is lost", "breaks its daemon"])
def test_a_worker_that_fails_stays_disabled_and_the_next_run_goes_on_with_it(
    becomes: str, tmp_path: Path
) -> None:
    workers: dict[str, dict[str, object]] = {f"w{number}": {} for number in range(1, 4)}
    workers["w1"]["becomes"] = becomes
    site = Site(tmp_path, workers)
    shown = site.patch(patch_at_once="67%")
    assert site.maintained == {"w1", "w2"}
    most = (tmp_path / "most").read_text(encoding="utf-8").split()
    assert max(map(int, most)) == 2
    assert site.disabled == {"all.q@w1"} and site.noted == {"w1"}
    assert "w1 failed after its maintenance had begun" in reported("w1", shown)
    assert "with --limit w1,w3; it enables" in reported("w1", shown)
    assert reported("w2", shown) == ""
    assert "w1 did not come back into service, so it was not begun" in reported("w3", shown)

    # The administrator repairs the worker.
    site.workers["w1"]["becomes"] = "well"
    for folder in ("lost", "daemon"):
        (tmp_path / folder / "w1").unlink(missing_ok=True)
    (tmp_path / "log").unlink()
    shown = site.patch("--limit", "w1,w3")
    assert site.maintained == {"w1", "w3"} and not site.disabled and not site.noted
    assert reported("w1", shown) == reported("w3", shown) == ""


def test_a_worker_is_drained_until_its_last_job_or_the_window_ends(tmp_path: Path) -> None:
    workers: dict[str, dict[str, object]] = {
        "ends": {"patch_drain_minutes": 5},
        "lasts": {"patch_drain_minutes": 60, "patch_window_minutes": 0.5},
    }
    site = Site(tmp_path, workers)
    for name in workers:
        (tmp_path / "jobs" / name).write_text(f"42 of alice on {name}\n", encoding="utf-8")
    third = "[ $(grep -c '^qstat .*@ends$' log) -lt 3 ] || rm -f jobs/ends\n"
    site.program("bin/qstat", COMMAND.replace("NAME", "qstat") + third + COMMANDS["qstat"])
    began = time.monotonic()
    shown = site.patch(patch_at_once=2)
    # The run must end with the window of half a minute (plus the time that Ansible itself needs).
    # It must not last for the hour that draining may take.
    assert time.monotonic() - began < 900

    looks = [line.split()[-1] for line in site.log if line.startswith(("qstat", "maintain"))]
    assert [each for each in looks if "lasts" not in each] == [*["*@ends"] * 3, "ends"]
    assert site.maintained == {"ends"} and not site.disabled and not site.noted
    assert reported("ends", shown) == ""
    assert looks.count("*@lasts") > 1
    assert "lasts was not maintained; its queues are enabled again" in reported("lasts", shown)
    assert "42 of alice on lasts" in reported("lasts", shown)
