"""PostgreSQL as the hub's database."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import postgresql
import pytest
from postgresql import SENTENCE, main_process, reads, wait_for_the_database

import faults
from hub_client import page_text, wait_for
from sessions import Person, Session

Fault = Callable[[], AbstractContextManager[None]]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            postgresql.stopped,
            id="stopped",
            marks=pytest.mark.fault(
                "PostgreSQL stopped for a while",
                outcome="Sessions live and can be used; the hub's pages and API answer 503 with a "
                "sentence, and nobody is logged out. When it is back, the hub restarts itself.",
            ),
        ),
        pytest.param(
            postgresql.killed,
            id="killed",
            marks=pytest.mark.fault("PostgreSQL killed with all connections", outcome="The same."),
        ),
        pytest.param(
            postgresql.frozen,
            id="frozen",
            marks=pytest.mark.fault(
                "PostgreSQL frozen: connections stay open, nothing is answered",
                outcome="The same; the hub serves nothing for up to 10 s, once.",
            ),
        ),
    ],
)
def test_while_the_database_is_away_sessions_go_on_and_pages_give_the_reason(
    fault: Fault, running: Session, bob: Person
) -> None:
    before, since = main_process(), int(time.time())
    with fault():
        start = time.monotonic()
        _, text = wait_for(
            "the page gives the reason",
            lambda: (seen := reads(bob))[0] == 503 and seen,
            60,
        )
        assert SENTENCE in text
        assert time.monotonic() - start < 20
        # The session itself needs no hub.
        assert running.look()[0] == running.value
        # Nobody waits for a server that is known to be away.
        start = time.monotonic()
        for _ in range(5):
            assert reads(bob)[0] == 503
        assert time.monotonic() - start < 5
        assert faults.page_status("/hub/login") == 200
        assert faults.page_status("/hub/health") == 200
        page = bob.rest("GET", f"/users/{bob.name}")
        assert page.status_code == 503, page_text(page)
        assert main_process() == before
        faults.hold(20)
    wait_for("systemd has restarted the hub", lambda: main_process() not in ("0", before))
    wait_for_the_database(bob)
    wait_for_the_database(running.person)
    running.assert_alive()
    Session(bob).start().assert_alive()
    # The program that ends idle sessions also reports that the hub did not answer.
    log = faults.run("hub", f"journalctl --no-pager -u jupyterhub --since @{since}")
    assert "api_token=" not in log


@pytest.mark.fault(
    "PostgreSQL away when a session should start",
    outcome="The start is refused with the reason, and there is no job.",
)
def test_a_start_without_postgresql_leaves_no_job(running: Session, bob: Person) -> None:
    bob.get("/hub/spawn")
    with postgresql.stopped():
        page = bob.http.post(
            bob.url("/hub/spawn"),
            data={"cores": "1", "memory": "1", "run_time": "1", "_xsrf": bob._xsrf()},
            timeout=60,
        )
        assert page.status_code == 503 and SENTENCE in page_text(page)
        assert faults.jobs("bob") == []
    wait_for_the_database(bob)
    Session(bob).start()


@pytest.mark.fault(
    "PostgreSQL away when a session is stopped, and back",
    outcome="The job ends or the session goes on, and the hub shows which.",
)
def test_a_session_that_is_stopped_without_postgresql_is_not_forgotten(
    running: Session, bob: Person
) -> None:
    session = Session(bob).start()
    with postgresql.stopped():
        answer = bob.rest("DELETE", f"/users/{bob.name}/server")
        assert answer.status_code == 503
    wait_for_the_database(bob)
    session.assert_alive()
    bob.stop()
    wait_for("bob's job is gone", lambda: not faults.jobs("bob"))


@pytest.mark.fault(
    "job of a session ends while PostgreSQL is away",
    outcome="When it is back, the hub shows that the session has ended.",
)
def test_a_session_that_ends_while_postgresql_is_away_is_shown_as_ended(
    running: Session, bob: Person
) -> None:
    session = Session(bob).start()
    with postgresql.stopped():
        faults.delete(next(job for job in faults.jobs("bob") if job.id == session.job))
        wait_for("bob's job is gone", lambda: not faults.jobs("bob"))
        faults.hold(10)
    wait_for_the_database(bob)
    wait_for("the hub shows the end", bob.has_none, 120)


@pytest.mark.parametrize(
    "hub_first",
    [
        pytest.param(
            True,
            marks=pytest.mark.fault(
                "hub and PostgreSQL lost; the hub is back first",
                outcome="It waits, and its log says for what; when PostgreSQL is back, it resumes "
                "all sessions.",
            ),
        ),
        pytest.param(
            False,
            marks=pytest.mark.fault(
                "hub and PostgreSQL lost; PostgreSQL is back first",
                outcome="The hub resumes all sessions.",
            ),
        ),
    ],
)
def test_hub_and_postgresql_come_back_in_any_order(
    hub_first: bool, running: Session, bob: Person
) -> None:
    since = faults.run("hub", "date +%s").strip()
    faults.run("hub", "systemctl kill --signal=KILL jupyterhub; systemctl stop jupyterhub")
    try:
        with postgresql.killed():
            if hub_first:
                faults.run("hub", "systemctl start jupyterhub")
                log = f"journalctl --no-pager -u jupyterhub --since @{since}"
                wait_for(
                    "the log says for what the hub waits",
                    lambda: "The database does not answer" in faults.run("hub", log),
                )
                assert "password" not in faults.run("hub", log).lower()
                # nginx has a page of its own while the hub does not listen.
                assert faults.page_status("/hub/login") >= 500
                faults.hold(10)
                assert faults.run("hub", "systemctl show -P NRestarts jupyterhub").strip() == "0"
            running.look()
    finally:
        faults.run("hub", "systemctl start jupyterhub")
    faults.wait_for_the_hub()
    wait_for_the_database(bob)
    running.assert_alive()
    Session(bob).start().assert_alive()


@pytest.mark.fault(
    "host of PostgreSQL rebooted",
    outcome="Sessions live; the hub goes on when it is back.",
)
def test_a_reboot_of_the_servers_host_ends_no_session(running: Session, bob: Person) -> None:
    faults.run("database", "systemctl reboot")
    wait_for(
        "PostgreSQL is up after the boot",
        lambda: postgresql.host("database").run("uptime").rc == 0 and postgresql.is_up(),
        faults.BOOT,
    )
    wait_for_the_database(bob)
    running.assert_alive()
