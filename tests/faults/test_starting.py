"""Faults while a session waits or starts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

import faults
from cluster import BASE_URL, read_passwords
from faults import Fault
from hub_client import HubClient, page_text, wait_for
from sessions import CHOICE, Person, Session


def queue_a_session(bob: Person) -> int:
    """Start a session that has to wait in the queue; return its job's number."""
    bob.choose(**CHOICE)
    wait_for("bob's job waits in the queue", lambda: faults.jobs("bob"))
    (job,) = faults.jobs("bob")
    wait_for("the waiting page shows the job", lambda: str(job.id) in bob.progress())
    return job.id


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            faults.hub_restarted,
            id="restarted",
            marks=pytest.mark.fault(
                "hub restarted while a session waits in the queue",
                outcome="It keeps waiting, as the same job, and comes up.",
            ),
        ),
        pytest.param(
            faults.hub_killed,
            id="killed",
            marks=pytest.mark.fault(
                "hub killed while a session waits in the queue",
                outcome="It keeps waiting, as the same job, and comes up.",
            ),
        ),
    ],
)
def test_a_queued_session_survives_a_restart_of_the_hub(fault: Fault, bob: Person) -> None:
    with faults.queue_disabled():
        job = queue_a_session(bob)
        with fault():
            pass
        wait_for("the session still waits", bob.is_waiting)
        assert [job.id for job in faults.jobs("bob")] == [job]
    bob.wait_until_ready(60)
    session = Session(bob)
    session.compute()
    assert session.job == job


@pytest.mark.fault(
    "hub restarted while a session's job is held",
    outcome="The page says that the job is held; once released, the same job comes up.",
)
def test_a_held_session_survives_a_restart_of_the_hub(bob: Person) -> None:
    with faults.queue_disabled():
        job = queue_a_session(bob)
        faults.run("hub", f"runuser -u bob -- qhold {job}")
    with faults.hub_restarted():
        pass
    wait_for("the page says that it is held", lambda: f"Job {job} is held" in bob.progress())
    faults.run("hub", f"runuser -u bob -- qrls {job}")
    bob.wait_until_ready(60)
    session = Session(bob)
    session.compute()
    assert session.job == job


@pytest.mark.fault(
    "hub killed at any moment of a start",
    outcome="One session comes up or none, and the hub shows which; no job is left.",
)
@pytest.mark.parametrize("delay", [0.3, 1, 2.5])
def test_a_hub_killed_at_any_moment_of_a_start_leaves_one_session_or_none(
    delay: float, bob: Person
) -> None:
    with ThreadPoolExecutor() as pool:
        start = pool.submit(bob.rest, "POST", "/users/bob/server", CHOICE)
        faults.hold(delay)
        with faults.hub_killed():
            pass
        start.exception()
    wait_for("the start has come up or failed", lambda: bob.is_ready() or bob.has_none(), 90)
    if bob.is_ready():
        Session(bob).compute()
        assert len(faults.jobs("bob")) == 1
    else:
        wait_for("no job is left", lambda: not faults.jobs("bob"), 60)


@pytest.mark.fault(
    "session cancelled while it waits in the queue",
    outcome="The job and the file with its secrets are gone at once.",
)
def test_a_cancelled_wait_leaves_no_job_and_no_file(bob: Person) -> None:
    with faults.queue_disabled():
        queue_a_session(bob)
        bob.stop()
        wait_for("no job is left", lambda: not faults.jobs("bob"), 10)
        assert faults.session_files() == ""


@pytest.mark.fault(
    "session cancelled while it waits, after a restart of the hub",
    outcome="The job and the file with its secrets are gone at once.",
)
def test_a_wait_cancelled_after_a_restart_of_the_hub_leaves_no_job_and_no_file(bob: Person) -> None:
    with faults.queue_disabled():
        queue_a_session(bob)
        with faults.hub_restarted():
            pass
        wait_for("the session still waits", bob.is_waiting)
        bob.stop()
        wait_for("no job is left", lambda: not faults.jobs("bob"), 10)
        assert faults.session_files() == ""


@pytest.mark.fault(
    "start takes longer than jupyterhub_start_timeout",
    outcome="The person reads that no place became free; the job is deleted.",
)
def test_a_wait_that_takes_too_long_ends_with_the_reason(
    bob: Person, running: list[Session]
) -> None:
    with (
        faults.hub_configured("c.SGESpawner.wait_limit = 15"),
        faults.queue_disabled(),
    ):
        text = bob.reads_after_failure(bob.choose(**CHOICE))
        assert "no place for it became free" in text
        wait_for("no job is left", lambda: not faults.jobs("bob"), 30)
        assert faults.session_files() == ""


@pytest.mark.fault(
    "job deleted by qdel while it waits",
    outcome="The person reads that the job was deleted.",
)
def test_the_deletion_of_a_waiting_job_is_shown(bob: Person) -> None:
    with faults.queue_disabled():
        page = bob.choose(**CHOICE)
        wait_for("bob's job waits in the queue", lambda: faults.jobs("bob"))
        (job,) = faults.jobs("bob")
        faults.delete(job)
        text = bob.reads_after_failure(page)
        assert f"Job {job.id} was deleted before JupyterLab was up" in text


@pytest.mark.fault(
    "job in an error state",
    outcome="The person reads Grid Engine's reason; the job is deleted.",
)
def test_the_reason_of_an_error_state_is_shown(bob: Person) -> None:
    with faults.home_out_of_reach("bob", "exec1", "exec2"):
        text = bob.reads_after_failure(bob.choose(**CHOICE))
        assert "/home/bob" in text, "Grid Engine's own reason"
        wait_for("no job is left", lambda: not faults.jobs("bob"), 30)


@pytest.mark.fault(
    "job ends at once",
    outcome="The person reads why it ended, and the last lines of its log.",
)
def test_a_job_that_ends_at_once_is_reported_with_its_log(bob: Person) -> None:
    with faults.notebooks_missing():
        text = bob.reads_after_failure(bob.choose(**CHOICE))
        assert "ended before JupyterLab was up" in text
        assert "does not have the notebook environment /opt/jupyterhub-session" in text
        assert "The last lines of ~/.jupyterhub-sessions/" in text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(
            faults.home_full,
            "Your home folder is full",
            marks=pytest.mark.fault(
                "person's home full",
                outcome="The start is refused with the reason; there is no job.",
            ),
        ),
        pytest.param(
            faults.home_missing,
            "Your home folder is missing",
            marks=pytest.mark.fault(
                "person's home missing",
                outcome="The start is refused with the reason; there is no job.",
            ),
        ),
        pytest.param(
            faults.home_read_only,
            "Your home folder cannot be written",
            marks=pytest.mark.fault(
                "person's home read-only",
                outcome="The start is refused with the reason; there is no job.",
            ),
        ),
        pytest.param(
            faults.home_hanging,
            "Your home folder does not answer",
            marks=pytest.mark.fault(
                "person's home hangs",
                outcome="The start is refused with the reason within a minute; there is no job.",
            ),
        ),
    ],
)
def test_an_unusable_home_is_explained(
    fault: Callable[[str], AbstractContextManager[None]], words: str, bob: Person
) -> None:
    with fault("bob"):
        text = bob.reads_after_failure(bob.choose(**CHOICE))
        assert words in text
        assert faults.jobs("bob") == []
    Session(bob).start()


@pytest.mark.fault(
    "project that Grid Engine refuses",
    outcome="The person reads Grid Engine's message; there is no job.",
)
def test_a_refused_project_is_shown(bob: Person) -> None:
    with faults.submitted_with("-P", "no-such-project"):
        text = bob.reads_after_failure(bob.choose(**CHOICE))
        assert "Grid Engine refused the session" in text
        assert "no-such-project" in text
    assert faults.jobs("bob") == []
    assert faults.session_files() == ""


@pytest.mark.fault(
    "account closed",
    outcome="The person reads it at the login and at a start; there is no job.",
)
def test_a_closed_account_is_shown(bob: Person) -> None:
    with faults.account_closed("bob"):
        text = bob.reads_after_failure(bob.choose(**CHOICE))
        assert "The account bob cannot be used at the moment" in text
        assert "expired" in text
        assert faults.jobs("bob") == []
        visitor = HubClient(BASE_URL, "bob")
        page = visitor.log_in(read_passwords()["bob"])
        assert page.status_code == 403
        assert "Your password is correct, but: The account bob cannot be used" in page_text(page)


@pytest.mark.fault(
    "broker killed while it handles a start",
    outcome="The person reads that the service does not answer; no job is left.",
)
def test_a_killed_broker_leaves_no_job(bob: Person) -> None:
    with ThreadPoolExecutor() as pool:
        with faults.qmaster_frozen():
            start = pool.submit(bob.choose, **CHOICE)
            faults.kill_a_broker()
            text = bob.reads_after_failure(start.result())
        assert "does not answer" in text
    wait_for("no job is left", lambda: not faults.jobs("bob"), 60)


@pytest.mark.fault(
    "broker killed after it has submitted the job",
    outcome="The person reads that the service does not answer; the job is found and deleted.",
)
def test_a_broker_killed_after_it_has_submitted_leaves_no_job(bob: Person) -> None:
    slow = 'if "$REAL" "$@"; then sleep 8; fi'
    with (
        faults.queue_disabled(),
        faults.replaced("hub", "qsub", slow),
        ThreadPoolExecutor() as pool,
    ):
        start = pool.submit(bob.choose, **CHOICE)
        wait_for("the job is submitted", lambda: faults.jobs("bob"))
        faults.kill_a_broker()
        assert "does not answer" in bob.reads_after_failure(start.result())
        wait_for("no job is left", lambda: not faults.jobs("bob"), 60)


@pytest.mark.fault(
    "two starts requested at the same moment",
    outcome="There is one session, and one job.",
)
def test_two_starts_at_the_same_moment_make_one_job(bob: Person) -> None:
    bob.get("/hub/home")
    with ThreadPoolExecutor() as pool:
        starts = [pool.submit(bob.rest, "POST", "/users/bob/server", CHOICE) for _ in range(2)]
        codes = [start.result().status_code for start in starts]
    assert all(code in (201, 202, 400) for code in codes), codes
    bob.wait_until_ready()
    assert len(faults.jobs("bob")) == 1


@pytest.mark.fault(
    "session stopped while it starts",
    outcome="There is no session and no job.",
)
@pytest.mark.parametrize("delay", [0, 0.5, 2])
def test_a_stop_during_a_start_leaves_no_job(delay: float, bob: Person) -> None:
    with ThreadPoolExecutor() as pool:
        start = pool.submit(bob.rest, "POST", "/users/bob/server", CHOICE)
        wait_for("the start is under way", lambda: bob.record() is not None)
        faults.hold(delay)
        answer = bob.rest("DELETE", "/users/bob/server")
        assert answer.status_code in (202, 204), answer.text
        start.result()
    wait_for("the hub lists no session", bob.has_none, 30)
    wait_for("no job is left", lambda: not faults.jobs("bob"), 30)
