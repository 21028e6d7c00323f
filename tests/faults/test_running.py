"""Faults while sessions run."""

from __future__ import annotations

import contextlib
import re

import pytest

import faults
from hub_client import page_text, wait_for
from sessions import AWAY, Person, Session

#: Code that starts two programs. Together they need more memory than the session's 1 GB.
HOGS = """
import subprocess, sys
hog = "import time; x = bytearray(700 * 2**20); time.sleep(60)"
hogs = [subprocess.Popen([sys.executable, "-c", hog]) for _ in range(2)]
[hog.wait() for hog in hogs]
"""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "hub restarted",
            marks=pytest.mark.fault("hub restarted", outcome="Sessions live."),
        ),
        pytest.param(
            "hub restarted twice within ten seconds",
            marks=pytest.mark.fault("hub restarted twice in a row", outcome="Sessions live."),
        ),
        pytest.param(
            "hub killed",
            marks=pytest.mark.fault("hub killed", outcome="Sessions live; systemd restarts it."),
        ),
        pytest.param(
            "hub's host rebooted",
            marks=pytest.mark.fault("hub's host rebooted", outcome="Sessions live."),
        ),
        pytest.param(
            "proxy restarted",
            marks=pytest.mark.fault(
                "configurable-http-proxy restarted",
                outcome="Sessions live; connections break and come back within seconds.",
            ),
        ),
        pytest.param(
            "proxy killed",
            marks=pytest.mark.fault(
                "configurable-http-proxy killed",
                outcome="Sessions live; connections break and come back within seconds.",
            ),
        ),
        pytest.param(
            "nginx restarted",
            marks=pytest.mark.fault(
                "nginx restarted", outcome="Sessions live; connections break and come back."
            ),
        ),
        pytest.param(
            "qmaster stopped and started",
            marks=pytest.mark.fault("qmaster stopped", outcome="Sessions live."),
        ),
        pytest.param(
            "qmaster stopped while the hub restarts",
            marks=pytest.mark.fault(
                "hub restarted while the qmaster is down", outcome="Sessions live."
            ),
        ),
        pytest.param(
            "qmaster killed",
            marks=pytest.mark.fault("qmaster killed", outcome="Sessions live."),
        ),
        pytest.param(
            "qmaster killed while the hub restarts",
            marks=pytest.mark.fault("qmaster killed, hub restarted", outcome="Sessions live."),
        ),
        pytest.param(
            "qmaster frozen while the hub restarts",
            marks=[
                pytest.mark.fault(
                    "qmaster hangs longer than every time limit", outcome="Sessions live."
                ),
                pytest.mark.fault(
                    "hub restarted while the qmaster hangs", outcome="Sessions live."
                ),
            ],
        ),
        pytest.param(
            "execution daemon restarted",
            marks=pytest.mark.fault("execution daemon restarted", outcome="Sessions live."),
        ),
        pytest.param(
            "execution daemon killed",
            marks=pytest.mark.fault("execution daemon killed", outcome="Sessions live."),
        ),
        pytest.param(
            "worker cut off while the hub restarts",
            marks=[
                pytest.mark.fault(
                    "worker cut off from the network for a minute",
                    outcome="Its sessions keep computing, and answer again when it is back.",
                ),
                pytest.mark.fault(
                    "hub restarted while a worker is cut off",
                    outcome="Its sessions keep computing, and answer again when it is back.",
                ),
            ],
        ),
        pytest.param(
            "qstat lists no job while the hub restarts",
            marks=pytest.mark.fault("qstat's lists leave out all jobs", outcome="Sessions live."),
        ),
        pytest.param(
            "database not writable",
            marks=pytest.mark.fault("database not writable for a while", outcome="Sessions live."),
        ),
    ],
)
def test_running_sessions_survive(name: str, running: list[Session]) -> None:
    with faults.HARMLESS[name]():
        pass
    for session in running:
        session.assert_alive()


@pytest.mark.fault(
    "hub stopped",
    outcome="Sessions live and can be used; the hub's pages say that it will be back soon.",
)
def test_while_the_hub_is_down_notebooks_work_and_pages_say_back_soon(
    running: list[Session],
) -> None:
    with faults.hub_stopped():
        page = running[0].person.get("/hub/home")
        assert page.status_code in (502, 503)
        assert "will be back soon" in page_text(page)
        for session in running:
            assert session.look()[0] == session.value
    for session in running:
        session.assert_alive()


@pytest.mark.fault(
    "qmaster down",
    outcome="A start is refused with Grid Engine's message; no session ends, no job is left.",
)
def test_a_start_is_refused_with_the_reason_while_the_qmaster_is_down(bob: Person) -> None:
    with faults.qmaster_stopped():
        text = bob.reads_after_failure(bob.choose(cores=1, memory=1, run_time=1))
        assert "Grid Engine" in text
    assert faults.jobs("bob") == []


@pytest.mark.fault(
    "qmaster hangs",
    outcome="A start is refused within the time limit; if a job was submitted, it is deleted.",
)
def test_a_start_is_refused_with_the_reason_while_the_qmaster_hangs(bob: Person) -> None:
    with faults.qmaster_frozen():
        text = bob.reads_after_failure(bob.choose(cores=1, memory=1, run_time=1))
        assert "Grid Engine gave no answer within 10 s" in text
    assert bob.server() is None


@pytest.mark.fault(
    "qstat fails, prints garbage, hangs",
    outcome="Sessions live; a session that is starting comes up.",
)
def test_sessions_start_and_live_while_qstat_is_flaky(running: list[Session], bob: Person) -> None:
    new = Session(bob)
    with faults.qstat_flaky():
        new.start(seconds=120)
        faults.hold(30)
        new.assert_alive()
        with faults.hub_restarted():
            pass
        for session in running:
            session.assert_alive(120)
    new.assert_alive()


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(
            120,
            marks=pytest.mark.fault(
                "hub's clock two minutes fast", outcome="Sessions live; others start and stop."
            ),
        ),
        pytest.param(
            -120,
            marks=pytest.mark.fault(
                "hub's clock two minutes slow", outcome="Sessions live; others start and stop."
            ),
        ),
    ],
)
def test_a_wrong_clock_changes_nothing(seconds: int, running: list[Session], bob: Person) -> None:
    with faults.clock_off(seconds):
        for session in running:
            session.assert_alive()
        Session(bob).start().assert_alive()
        bob.stop()
        wait_for("bob's job is gone", lambda: not faults.jobs("bob"))


@pytest.mark.fault(
    "database not writable when a session should start",
    outcome="The start is refused with the reason, and there is no job.",
)
def test_a_start_without_a_writable_database_leaves_no_job(bob: Person) -> None:
    with faults.database_read_only():
        page = bob.choose(cores=1, memory=1, run_time=1)
        assert page.status_code >= 500
        assert "database" in page_text(page)
        assert faults.jobs("bob") == []
    Session(bob).start()


@pytest.mark.fault(
    "disk of the database full",
    outcome="Sessions live; a start is refused with the reason, and there is no job. "
    "Everything works again as soon as there is space.",
)
def test_a_full_disk_of_the_database_ends_no_session(running: list[Session], bob: Person) -> None:
    with faults.database_on_a_small_disk() as fill:
        fill(True)
        page = bob.choose(cores=1, memory=1, run_time=1)
        text = bob.reads_after_failure(page)
        assert "database" in text
        assert faults.jobs("bob") == []
        for session in running:
            assert session.look()[0] == session.value
        fill(False)
        for session in running:
            session.assert_alive()
        Session(bob).start()
        bob.stop()


@pytest.mark.fault(
    "worker lost for good",
    outcome="Its sessions are lost. Stop still ends within a minute, and the next session starts "
    "on another worker. The lost job is deleted within two minutes, though the worker is down.",
)
def test_after_the_loss_of_a_worker_people_can_start_on_another(
    running: list[Session], bob: Person
) -> None:
    Session(bob).start(not_on="exec2")
    with faults.lost("exec1"):
        for session in running:
            session.assert_alive()
        bob.stop(seconds=45)
        new = Session(bob).start(not_on="exec1")
        assert {job.host for job in faults.jobs("bob") if job.id == new.job} == {"exec2"}
        wait_for(
            "the lost job is gone while the worker is down",
            lambda: [job.id for job in faults.jobs("bob")] == [new.job],
            150,
        )
    new.assert_alive()


@pytest.mark.fault(
    "session suspended",
    outcome="Its address and its card say so within half a minute; when Grid Engine resumes it, it "
    "goes on.",
)
def test_a_suspended_session_says_so_and_goes_on(bob: Person) -> None:
    session = Session(bob).start()

    def page_of(address: str) -> str:
        with contextlib.suppress(*AWAY):  # until the hub has noticed, there is no answer
            return page_text(bob.get(address, timeout=5))
        return ""

    words = f"Job {session.job} is suspended on"
    with faults.suspended(session.job):
        wait_for(
            "the session's address gives the reason",
            lambda: words in page_of("/user/bob/lab/tree/x.ipynb"),
            30,
        )
        assert words in page_of("/hub/home")
        answer = bob.session_rest("GET", "api/kernels")
        assert answer.status_code == 503
        assert "does not answer" in answer.json()["message"]
    wait_for("JupyterLab opens again", lambda: "JupyterLab" in page_of("/user/bob/lab"), 60)
    assert session.look()[0] == session.value


@pytest.mark.fault(
    "job deleted by qdel while it runs",
    outcome="The hub notices within a minute and shows it; other sessions live.",
)
def test_a_running_job_deleted_with_qdel_is_noticed(bob: Person) -> None:
    Session(bob).start()
    (job,) = faults.jobs("bob")
    faults.delete(job)
    wait_for("the job is gone", lambda: not faults.jobs("bob"), 150)
    wait_for("the hub lists no session", bob.has_none, 90)
    assert f"job {job.id}, was deleted by an administrator" in bob.reads_on_the_form()


@pytest.mark.fault(
    "memory limit exceeded",
    outcome="The cell fails with a MemoryError; its kernel and session live.",
)
def test_a_cell_that_needs_too_much_memory_fails_alone(bob: Person) -> None:
    session = Session(bob).start()
    with pytest.raises(AssertionError, match="MemoryError"):
        bob.run(session.kernel, "hog = bytearray(2 * 1024**3)")
    session.assert_alive()


@pytest.mark.fault(
    "memory limit exceeded by all programs together",
    outcome="Grid Engine ends the job; the hub notices within a minute and shows the reason.",
)
def test_the_end_of_a_session_with_too_much_memory_is_explained(bob: Person) -> None:
    session = Session(bob).start()
    with contextlib.suppress(*AWAY):  # the kernel ends together with the job
        bob.run(session.kernel, HOGS, 30)
    wait_for("the job is gone", lambda: not faults.jobs("bob"), 150)
    wait_for("the hub lists no session", bob.has_none, 90)
    text = bob.reads_on_the_form()
    assert f"job {session.job}, was ended because its programs together used" in text
    assert re.search(r"its memory: [1-9]\.\d GB of 1\.0 GB", text), text


@pytest.mark.fault(
    "session shut down from within",
    outcome="The hub notices within a minute and shows it.",
)
def test_a_session_shut_down_from_within_is_shown_as_such(bob: Person) -> None:
    session = Session(bob).start()
    bob.shut_down()
    wait_for("the job is gone", lambda: not faults.jobs("bob"), 60)
    wait_for("the hub lists no session", bob.has_none, 90)
    assert f"job {session.job}, was shut down from inside the session" in bob.reads_on_the_form()


@pytest.mark.fault(
    "run time used up",
    outcome="Grid Engine ends the job; the hub notices within a minute and shows the reason.",
)
def test_a_session_ends_when_its_run_time_is_used_up(bob: Person) -> None:
    def offer_a_minute(items: list[dict[str, object]]) -> None:
        item = next(item for item in items if item["name"] == "run_time")
        item.update(unit="minutes", choices=[1], default=1)

    with faults.menu(offer_a_minute):
        session = Session(bob).start()
    wait_for("the job is gone", lambda: not faults.jobs("bob"), 150)
    wait_for("the hub lists no session", bob.has_none, 90)
    with pytest.raises(AWAY):
        session.look()
    text = bob.reads_on_the_form()
    assert "has ended because its run time, 1 minute, was used up" in text
