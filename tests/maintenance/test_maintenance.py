"""Real monthly maintenance: its start by the timer, its updates and reboots, and its failures."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dateutil import rrule

import faults
from archive import archive, build, run, version
from cluster import PREFIX, ROOT, host
from faults import BOOT, enter, main_process, queue_disabled
from hub_client import page_text, wait_for
from playbooks import output, playbook
from sessions import Person, Session

PROGRAM = "/usr/bin/python3 -sE /usr/local/lib/gridhub/sge_maintenance.py"
SETTINGS = "/etc/gridhub/maintenance.json"
HOLD = "/etc/gridhub/hold-maintenance"
#: A command that lists the packages in the hub's environment.
PINNED = "ls -d /opt/jupyterhub/current/env/lib/python3*/site-packages/*.dist-info"
WINDOW = "/etc/jupyterhub/worker_window.json"
DROP_IN = "/run/systemd/system/jupyterhub-maintenance.timer.d/test.conf"


def status(name: str) -> dict[str, Any]:
    return dict(json.loads(run(name, f"{PROGRAM} status")))


def last(name: str) -> dict[str, Any]:
    return dict(status(name)["last"])


def words(report: dict[str, Any]) -> str:
    return json.dumps(report["steps"])


def ended(name: str, after: str) -> bool:
    """Return whether the last maintenance run started later than ``after`` and has ended."""
    shown = host(name).run(f"{PROGRAM} status")
    found = json.loads(shown.stdout) if shown.rc == 0 else {}
    return bool(
        found and not found["unfinished"] and found["last"] and found["last"]["started"] > after
    )


def started_last(name: str) -> str:
    report = status(name)["last"]
    return str(report["started"]) if report else ""


def set_timer(name: str, moment: datetime) -> None:
    """Make the timer elapse once, at ``moment``. A reboot restores the timer's own dates."""
    lines = f"[Timer]\\nOnCalendar=\\nOnCalendar={moment:%Y-%m-%d %H:%M:%S} UTC\\n"
    run(
        name,
        f"mkdir -p $(dirname {DROP_IN}); printf '{lines}' > {DROP_IN}; systemctl daemon-reload;"
        " systemctl restart jupyterhub-maintenance.timer;"
        " systemctl start jupyterhub-maintenance-notice.service",
    )


@contextlib.contextmanager
def timer(name: str, moment: datetime) -> Iterator[None]:
    try:
        set_timer(name, moment)
        yield
    finally:
        run(
            name,
            f"rm -rf $(dirname {DROP_IN}); systemctl daemon-reload;"
            " systemctl restart jupyterhub-maintenance.timer;"
            " systemctl start jupyterhub-maintenance-notice.service",
        )


@contextlib.contextmanager
def settings(name: str, **changed: object) -> Iterator[None]:
    whole = run(name, f"cat {SETTINGS}")
    text = json.dumps(json.loads(whole) | changed)
    try:
        run(name, f"printf %s {shlex.quote(text)} > {SETTINGS}")
        yield
    finally:
        run(name, f"printf '%s\\n' {shlex.quote(whole)} > {SETTINGS}")


@contextlib.contextmanager
def hold(name: str, text: str) -> Iterator[None]:
    try:
        run(name, f"printf {shlex.quote(text)} > {HOLD}")
        yield
    finally:
        run(name, f"rm -f {HOLD}")


def maintain(name: str, **changed: object) -> tuple[int, dict[str, Any]]:
    """Run maintenance now; by default, reboot only if required. Return exit status and report."""
    with settings(name, **({"reboot": "when_required"} | changed)):
        done = host(name).run(f"{PROGRAM} now")
    return int(done.rc), last(name)


def announced(person: Person) -> str:
    return page_text(person.get("/hub/home"))


#: A server that accepts mail on port 2525 and prints it.
MAIL_SERVER = """
import socketserver

class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.answer(b"220 here")
        is_body = False
        for line in map(bytes.strip, self.rfile):
            if is_body and line != b".":
                print(line.decode(), flush=True)
                continue
            answers = {b".": b"250 taken", b"data": b"354 go on", b"quit": b"221 bye"}
            is_body = line.lower() == b"data"
            self.answer(answers.get(line.lower(), b"250 ok"))

    def answer(self, words):
        self.wfile.write(words + b"\\r\\n")

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 2525), Mail).serve_forever()
"""


@contextlib.contextmanager
def mailbox(name: str) -> Iterator[Callable[[], str]]:
    """Run a mail server on a host; yield a function that returns the mail it has received."""
    serve = f"python3 -c {shlex.quote(MAIL_SERVER)}"
    run(name, f"{serve} > /root/mail 2>&1 & echo $! > /root/mailer")
    try:
        answers = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 2525))'"
        wait_for("the mail server answers", lambda: host(name).run(answers).rc == 0)
        yield lambda: run(name, "cat /root/mail")
    finally:
        run(name, "kill $(cat /root/mailer)")


def metric(name: str, number: str) -> float:
    text = run(name, "cat /var/lib/prometheus/node-exporter/gridhub_maintenance.prom")
    return float(dict(line.split() for line in text.splitlines() if line[0] != "#")[number])


def second_tuesdays(start: datetime, count: int) -> list[datetime]:
    """Return the next dates of maintenance in the demo, computed without systemd."""
    return list(
        rrule.rrule(
            rrule.MONTHLY,
            count=count,
            byweekday=rrule.TU(2),
            byhour=3,
            byminute=26,
            bysecond=0,
            dtstart=start,
        )
    )


def test_the_timer_elapses_on_second_tuesdays_for_twenty_years() -> None:
    ask = (
        "from gridhub.maintenance import timer; from datetime import datetime, UTC;"
        "dates = timer.dates(timer.expression(), datetime(2026, 1, 1, tzinfo=UTC), 240);"
        "print(*[date.isoformat() for date in dates])"
    )
    shown = run("hub", f"cd /usr/local/lib/gridhub && python3 -c {shlex.quote(ask)}")
    expected = second_tuesdays(datetime(2026, 1, 1, tzinfo=UTC), 240)
    assert run("hub", "date +%Z").strip() == "UTC"
    assert [datetime.fromisoformat(each) for each in shown.split()] == expected


def test_updates_and_reboot_at_the_time_of_the_timer(computing: list[Session], bob: Person) -> None:
    """Hub and proxy are maintained while the two sessions compute."""
    hosts = ("hub", "proxy")
    for name in hosts:
        for package in ("gridhub-probe", "gridengine-probe"):
            build(name, package, "2.0")
        run(name, "rm -f /var/lib/gridhub-maintenance/report.json")  # of an earlier run
    assert "Maintenance" not in announced(bob)
    before = {name: (main_process(name), started_last(name)) for name in hosts}
    pinned = run("hub", PINNED)

    # In the last minutes before the maintenance, no session may start.
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    set_timer("hub", moment)
    wait_for("the pages show it", lambda: "Maintenance, until" in announced(bob), 10)
    back = f"Come back at {moment + timedelta(minutes=20):%H:%M} UTC"
    assert back in page_text(bob.choose(cores=1, memory=1, run_time=1))
    answer = bob.rest("POST", "/users/bob/server", {"cores": 1, "memory": 1, "run_time": 1})
    assert answer.status_code == 400 and back in answer.json()["message"]
    assert bob.server() is None

    for name in hosts:
        set_timer(name, datetime.now(UTC) + timedelta(seconds=8))
    for name in hosts:
        wait_for(
            f"{name} has rebooted",
            lambda name=name: main_process(name) not in ("0", before[name][0]),
            BOOT + 60,
        )
    for name in hosts:
        wait_for(
            f"{name} has been checked",
            lambda name=name: ended(name, before[name][1]),
            BOOT + 120,
        )
        report = last(name)
        assert report["result"] == "done", words(report)
        assert not report["by_hand"]
        assert version(name, "gridhub-probe") == "installed 2.0"
        assert version(name, "gridengine-probe") == "installed 1.0"  # changed only by playbooks
        assert "gridhub-probe: 1.0 -> 2.0" in run(name, f"cat {report['log']}")
        assert metric(name, "gridhub_maintenance_last_success") == 1
        assert status(name)["problems"] == []
        journal = run(name, "journalctl -u jupyterhub-maintenance-check -o cat")
        assert f"The maintenance of {report['host']}: done." in journal
    assert run("hub", PINNED) == pinned
    assert "2 sessions ran before" in words(last("hub"))
    for name in hosts:
        assert "/hub/login answers" in words(last(name))
    for what in ("/hub/health answers", "Grid Engine answers"):
        assert what in words(last("hub"))
    folder, *copies = run("hub", "stat -c %a /var/backups/gridhub /var/backups/gridhub/*").split()
    assert folder == "700" and set(copies) == {"600"}

    # After the maintenance, the kernels still run, the notice has gone, and sessions start again.
    for session in computing:
        session.assert_alive()
    wait_for("the notice has gone", lambda: "Maintenance" not in announced(bob), 10)
    bob.choose(cores=1, memory=1, run_time=1)
    bob.wait_until_ready()


def test_the_timer_does_not_catch_up() -> None:
    """Test a copy of the timer. The copy is new to systemd, as every timer is after a boot."""
    date = datetime.now(UTC) - timedelta(seconds=10)
    units = "/run/systemd/system"
    run(
        "hub",
        f"sed 's/^OnCalendar=.*/OnCalendar={date:%Y-%m-%d %H:%M:%S} UTC/'"
        f" /etc/systemd/system/jupyterhub-maintenance.timer > {units}/copy.timer;"
        f" printf '[Service]\\nType=oneshot\\nExecStart=/bin/true\\n' > {units}/copy.service;"
        # This stamp file tells systemd that the timer last elapsed a day ago.
        " touch -d '1 day ago' /var/lib/systemd/timers/stamp-copy.timer; systemctl daemon-reload",
    )
    try:
        run("hub", "systemctl start copy.timer jupyterhub-maintenance-notice.service")
        assert run("hub", "systemctl show --property InvocationID --value copy.service") == ""
    finally:
        run("hub", f"systemctl stop copy.timer; rm {units}/copy.* /var/lib/systemd/timers/*-copy.*")
        run("hub", "systemctl daemon-reload")


def test_a_second_start_runs_no_second_maintenance() -> None:
    began = started_last("hub")
    with timer("hub", datetime.now(UTC) - timedelta(seconds=10)):
        run("hub", "systemctl start jupyterhub-maintenance.service")
        journal = run("hub", "journalctl -u jupyterhub-maintenance -n 5 -o cat")
    assert "There was one at" in journal
    assert started_last("hub") == began


def test_no_maintenance_begins_at_another_time() -> None:
    began = started_last("hub")
    with timer("hub", datetime.now(UTC) - timedelta(minutes=31)):
        run("hub", "systemctl start jupyterhub-maintenance.service")
        journal = run("hub", "journalctl -u jupyterhub-maintenance -n 5 -o cat")
    assert "This is no time for it" in journal
    assert started_last("hub") == began


def test_two_maintenances_do_not_run_at_once() -> None:
    lock = "/var/lib/gridhub-maintenance/lock"
    run(
        "hub",
        f"flock {lock} sh -c 'touch /root/held; exec sleep 600' >/dev/null 2>&1 &"
        " echo $! > /root/holder",
    )
    try:
        wait_for("the lock is taken", lambda: host("hub").file("/root/held").exists)
        done = host("hub").run(f"{PROGRAM} now")
        assert done.rc == 1 and "already running" in done.stderr
        # Pretend that another run is changing packages: the host must not reboot meanwhile.
        run(
            "hub",
            "cd /usr/local/lib/gridhub && python3 -c 'from gridhub.maintenance import host, report;"
            ' report.Report(host.now(), by_hand=False).enter_phase("updating")\'',
        )
        before = main_process("hub")
        done = playbook("patch.yml", "--limit", "hub")
        assert done.returncode != 0 and "already running" in output(done)
        assert main_process("hub") == before and status("hub")["phase"] == "updating"
    finally:
        run("hub", "rm -f /var/lib/gridhub-maintenance/unfinished.json")
        run("hub", "pkill --parent $(cat /root/holder); rm /root/held")


def test_a_hold_file_prevents_maintenance_until_it_expires(bob: Person) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    with (
        timer("hub", later),
        hold("hub", f"reason: exams\\nuntil: {later + timedelta(days=1):%Y-%m-%d %H:%M}\\n"),
    ):
        run("hub", f"{PROGRAM} announce")
        wait_for("the notice has gone", lambda: "Maintenance" not in announced(bob), 10)
        code, report = maintain("hub")
        assert (code, report["result"]) == (0, "held")
        assert "exams" in status("hub")["problems"][0]
    with hold("hub", "reason: exams\\nuntil: 2020-01-31 18:00\\n"):
        code, report = maintain("hub")
        assert (code, report["result"]) == (0, "done"), words(report)
    with hold("hub", "exams, do not reboot!\\n"):
        code, report = maintain("hub")
        assert code == 1 and "must have a line" in words(report)


def test_an_interrupted_installation_is_finished_first() -> None:
    build("hub", "gridhub-late", "1.0")
    try:
        run("hub", "dpkg --unpack /srv/archive/gridhub-late_1.0.deb")
        assert version("hub", "gridhub-late") == "unpacked 1.0"
        code, report = maintain("hub")
        assert (code, report["result"]) == (0, "done"), words(report)
        assert "repaired" in words(report)
        assert version("hub", "gridhub-late") == "installed 1.0"
    finally:
        run("hub", "dpkg --purge gridhub-late")


def test_a_host_with_a_package_that_cannot_be_configured_is_not_rebooted() -> None:
    before = main_process("hub")
    build("hub", "gridhub-probe", "3.0", "exit 7")
    try:
        code, report = maintain("hub", reboot="always")
        assert code == 1 and "not rebooted" in report["result"], words(report)
        assert main_process("hub") == before
        assert metric("hub", "gridhub_maintenance_last_success") == 0
        assert any("cannot be repaired" in each for each in status("hub")["problems"])
    finally:
        run("hub", "rm /srv/archive/gridhub-probe_3.0.deb")
        build("hub", "gridhub-probe", "4.0")
        run("hub", "dpkg --install /srv/archive/gridhub-probe_4.0.deb")


def test_updates_that_exceed_the_time_limit_are_left_running() -> None:
    before = main_process("hub")
    once = "[ ! -e /root/hangs ] || exit 0; echo $$ > /root/hangs; exec sleep 600"
    build("hub", "gridhub-probe", "5.0", once)
    drop_in = "/run/systemd/system/jupyterhub-maintenance.service.d"
    lines = f"[Service]\\nExecStart=\\nExecStart={PROGRAM} now\\n"
    try:
        # Run the program in its real unit. When this unit ends, systemd must not kill the update's
        # processes.
        run("hub", f"mkdir -p {drop_in}; printf '{lines}' > {drop_in}/now.conf")
        with settings("hub", reboot="always", time_limit=15):
            run("hub", "systemctl daemon-reload")
            assert host("hub").run("systemctl start jupyterhub-maintenance").rc == 1
        report = last("hub")
        assert "not rebooted" in report["result"], words(report)
        assert "unattended-upgrade --verbose: does not end, and is left running" in words(report)
        assert main_process("hub") == before
        run("hub", "kill -0 $(cat /root/hangs)")
    finally:
        run("hub", f"kill $(cat /root/hangs); rm -r {drop_in}; systemctl daemon-reload")
        run("hub", "systemctl reset-failed jupyterhub-maintenance")
        ask = "from gridhub.maintenance import packages; exit(bool(packages.lock_holder()))"
        free = f"cd /usr/local/lib/gridhub && python3 -c '{ask}'"
        wait_for("it has ended", lambda: host("hub").run(free).rc == 0)
        run("hub", "dpkg --configure --pending; rm /root/hangs")
    assert version("hub", "gridhub-probe") == "installed 5.0"


def test_an_archive_that_cannot_be_read_is_reported() -> None:
    run("hub", "mv /srv/archive /srv/aside")
    try:
        code, report = maintain("hub")
    finally:
        run("hub", "mv /srv/aside /srv/archive")
    assert code == 1 and report["result"].startswith("failed in part"), words(report)
    assert [step["name"] for step in report["steps"] if not step["ok"]] == [
        "the updates are installed"
    ]


def test_a_full_disk_prevents_maintenance_and_is_reported_by_mail() -> None:
    to = {"mail_to": "admins@example.org", "mail_server": "127.0.0.1:2525"}
    enter("hub", "mount", "-t", "tmpfs", "-o", "size=8m", "small", "/var/backups/gridhub")
    try:
        with mailbox("hub") as read_mail:
            code, report = maintain("hub", reboot="always", **to)
            mail = read_mail()
    finally:
        enter("hub", "umount", "/var/backups/gridhub")
    assert code == 1 and "/var/backups/gridhub has 8 MB free" in words(report)
    assert "To: admins@example.org" in mail
    assert f"Maintenance of {report['host']}: failed, and the host was not rebooted" in mail
    assert "/var/backups/gridhub has 8 MB free" in mail


def test_a_failed_backup_prevents_maintenance() -> None:
    before = version("hub", "gridhub-probe")
    build("hub", "gridhub-probe", "6.0")
    database = "/tmp/broken.sqlite"  # in a folder where the hub can read it
    run("hub", f"head -c 100000 /dev/urandom > {database}")
    code, report = maintain("hub", reboot="always", database=database)
    assert code == 1 and "not a database" in words(report)
    assert version("hub", "gridhub-probe") == before
    assert "broken" not in run("hub", "ls /var/backups/gridhub")


def test_another_update_prevents_maintenance() -> None:
    take = "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, 2)"
    script = f"{take}; print('taken', flush=True); time.sleep(60)"
    run("hub", f'python3 -c "{script}" > /root/taken 2>&1 & echo $! > /root/holder')
    wait_for("the lock is taken", lambda: run("hub", "cat /root/taken"))
    try:
        code, report = maintain("hub", reboot="always", lock_wait=0)
    finally:
        run("hub", "kill $(cat /root/holder)")
    assert code == 1 and "another program holds /var/lib/dpkg/lock-frontend" in words(report)


def test_services_that_do_not_answer_afterwards_are_reported() -> None:
    """If the proxy has no route to a session, the hub answers in the session's place."""
    nowhere = "https://127.0.0.1:8081/hub/nowhere"
    proxy = json.loads(run("hub", f"cat {SETTINGS}"))["proxy"]
    wrong = {"urls": [nowhere], "proxy": f"{proxy}/nowhere"}
    code, report = maintain("hub", check_minutes=0, **wrong)
    failed = {step["name"]: step["words"] for step in report["steps"] if not step["ok"]}
    sessions = "the sessions that ran before still run"
    assert code == 1 and set(failed) == {f"{nowhere} answers", sessions}
    assert failed[f"{nowhere} answers"] == f"{nowhere}: status 404"
    for name in ("alice", "carol"):
        line = next(each for each in failed[sessions].splitlines() if each.startswith(name))
        assert f"through {proxy}/nowhere" in line and "status 302" in line


def test_a_hub_that_does_not_come_up_is_reported(computing: list[Session]) -> None:
    before, began = main_process("hub"), started_last("hub")
    drop_in = "/etc/systemd/system/jupyterhub.service.d/broken.conf"
    lines = "[Service]\\nExecStartPre=/bin/false\\n"
    run("hub", f"mkdir -p $(dirname {drop_in}); printf '{lines}' > {drop_in}")
    try:
        with settings("hub", check_minutes=0):
            host("hub").run(f"{PROGRAM} now")
            wait_for("hub has booted", lambda: main_process("hub") not in ("0", before), BOOT)
            wait_for("it has been checked", lambda: ended("hub", began), BOOT + 60)
        assert "not active: jupyterhub.service" in words(last("hub"))
        assert "jupyterhub-maintenance-check" in run(
            "hub", "systemctl --failed --no-legend --plain"
        )
        shown = playbook("status.yml")
        assert shown.returncode != 0 and "not active: jupyterhub.service" in output(shown)
    finally:
        run(
            "hub",
            f"rm -r $(dirname {drop_in}); systemctl daemon-reload; systemctl restart jupyterhub",
        )
        faults.wait_for_the_hub()
    code, report = maintain("hub")
    assert (code, report["result"]) == (0, "done"), words(report)
    run("hub", "systemctl reset-failed jupyterhub-maintenance-check")
    shown = playbook("status.yml")
    assert shown.returncode == 0, output(shown)


def test_the_playbook_maintains_a_host_now_and_check_mode_shows_the_plan() -> None:
    began = "cat /proc/sys/kernel/random/boot_id && cut -d ' ' -f 22 /proc/1/stat"
    running = main_process("hub"), run("hub", began)
    shown = playbook("patch.yml", "--check", "--limit", "hub")
    assert shown.returncode == 0, output(shown)
    assert (main_process("hub"), run("hub", began)) == running
    coming = second_tuesdays(datetime.now(UTC).replace(microsecond=0), 2)
    for date in coming:
        assert f"{date:%A %Y-%m-%d %H:%M} UTC" in output(shown)
    assert "Tue *-*-08..14 03:26:00" in output(shown) and "Reboot: always" in output(shown)
    build("proxy", "gridhub-probe", "3.0")
    before = main_process("proxy")
    done = playbook("patch.yml", "--limit", "proxy")
    assert done.returncode == 0, output(done)
    assert main_process("proxy") not in ("0", before)
    assert version("proxy", "gridhub-probe") == "installed 3.0"
    report = last("proxy")
    assert report["by_hand"] and report["result"] == "done"


def test_the_smoke_test_is_the_last_check(bob: Person) -> None:
    """Here with a token, as where people log in with OpenID Connect."""
    scopes = ["servers!user=bob", "access:servers!user=bob", "read:users!user=bob"]
    body = {"scopes": scopes, "expires_in": 600}
    token = bob.rest("POST", "/users/bob/tokens", body).json()["token"]
    try:
        run("hub", f"umask 077; echo {token} > /etc/gridhub/canary-token")
        code, report = maintain("hub", canary_user="bob")
        assert (code, report["result"]) == (0, "done"), words(report)
        assert "the smoke test as bob succeeds" in words(report) and bob.server() is None
        run("hub", "echo 0 > /etc/gridhub/canary-token")
        code, report = maintain("hub", canary_user="bob")
        assert code == 1 and "the hub answered 403" in words(report)
    finally:
        run("hub", "rm -f /etc/gridhub/canary-token")


def disabled() -> str:
    return str(host("qmaster").run("qselect -qs d").stdout)


@contextlib.contextmanager
def disabled_meanwhile() -> Iterator[set[str]]:
    """Yield a set to which this function adds the disabled queues twice a second."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            seen.add(" ".join(sorted(disabled().split())))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield seen
    finally:
        over.set()
        watch.join()


def test_workers_are_maintained_one_by_one_after_their_last_job() -> None:
    """exec2 is not maintained, since the two sessions compute there."""
    with archive("exec1", only=False), disabled_meanwhile() as seen:
        build("exec1", "gridhub-probe", "2.0")
        before = {name: main_process(name) for name in ("exec1", "exec2")}
        done = playbook("patch_workers.yml", "--extra-vars", "patch_drain_minutes=0.1")
        assert done.returncode != 0
        assert "exec2 was not maintained; its queues are enabled again" in output(done)
        assert "exec1 was not maintained" not in output(done)
        assert main_process("exec1") not in ("0", before["exec1"])
        assert main_process("exec2") == before["exec2"]
        assert version("exec1", "gridhub-probe") == "installed 2.0"
        assert status("exec1")["problems"] == [] and disabled() == ""
        # The timer on the worker is off: only the playbook maintains workers.
        for ask, answer in {"is-enabled": "disabled", "is-active": "inactive"}.items():
            shown = host("exec1").run(f"systemctl {ask} jupyterhub-maintenance.timer")
            assert shown.stdout.strip() == answer
    assert seen == {"", "all.q@exec1", "all.q@exec2"}


def test_a_queue_left_disabled_by_a_run_is_reported() -> None:
    note = "/var/lib/gridhub-maintenance/disabled-queues"
    try:
        run("exec1", f"mkdir -p $(dirname {note}); echo all.q@exec1 > {note}")
        run("qmaster", "qmod -d all.q@exec1")
        shown = playbook("status.yml", "--limit", "hub:exec1")
        assert shown.returncode != 0
        assert "all.q@exec1 was left disabled by playbooks/patch_workers.yml" in output(shown)
        shown = playbook("status.yml", "--limit", "exec1")
        assert shown.returncode != 0
        assert "all.q@exec1 may still be disabled" in output(shown)
    finally:
        run("qmaster", "qmod -e all.q@exec1")
        run("exec1", f"rm -f {note}")
    shown = playbook("status.yml", "--limit", "exec1")
    assert shown.returncode == 0, output(shown)


def wait_behind_the_queue(bob: Person, left: timedelta, rule: str) -> datetime:
    """Queue a session, set a maintenance window, open the queue; return the window's start."""
    run("hub", f"rm -f {WINDOW}")
    wait_for("no earlier window is shown", lambda: "The workers are" not in announced(bob), 10)
    with queue_disabled():
        bob.choose(cores=1, memory=1, run_time=1)
        wait_for("it waits", bob.is_waiting)
        begin = datetime.now(UTC).replace(microsecond=0) + left
        window = {"begin": begin, "end": begin + timedelta(hours=1)}
        text = json.dumps({name: str(moment) for name, moment in window.items()} | {"rule": rule})
        run("hub", f"printf %s {shlex.quote(text)} > {WINDOW}")
        wait_for("the pages show it", lambda: "The workers are" in announced(bob), 10)
    return begin


def test_a_window_set_while_a_session_waits_applies_when_it_starts(bob: Person) -> None:
    try:
        wait_behind_the_queue(bob, timedelta(minutes=30), "refuse")
        wait_for("it is refused", lambda: bob.server() is None)
        page = bob.get("/hub/spawn-pending/bob")
        assert "The session waited in the queue for too long" in page_text(page)

        begin = wait_behind_the_queue(bob, timedelta(seconds=50), "cap")
        bob.wait_until_ready(50)
        bob.open_lab()
        assert any("its worker is maintained then" in each for each in bob.notices())
        before = datetime.now(UTC)
        left = bob.get(f"{bob.prefix}/gridhub/status").json()["left"]
        assert before + timedelta(seconds=left) <= begin
        wait_for("it is over", lambda: bob.server() is None, 60)
        assert datetime.now(UTC) >= begin
        wait_for("its job is gone", lambda: not faults.jobs("bob"))
        why = "because its worker is under maintenance"
        wait_for("the page gives the reason", lambda: why in announced(bob), 30)
    finally:
        run("hub", f"rm -f {WINDOW}")


def test_no_session_runs_into_the_window_of_the_workers(bob: Person) -> None:
    begin = datetime.now(UTC) + timedelta(minutes=90)
    clock = "%Y-%m-%d %H:%M"
    try:
        window = {
            "window_begin": begin.strftime(clock),
            "window_end": (begin + timedelta(hours=3)).strftime(clock),
        }
        done = playbook("worker_window.yml", **window)
        assert done.returncode == 0, output(done)
        wait_for("the pages show it", lambda: "The workers are maintained" in announced(bob), 10)
        page = page_text(bob.choose(cores=1, memory=1, run_time=2))
        assert "Choose at most 1 hour." in page
        bob.choose(cores=1, memory=1, run_time=1)
        bob.wait_until_ready(120)
    finally:
        done = playbook("worker_window.yml")
    assert done.returncode == 0, output(done)
    wait_for("the notice has gone", lambda: "The workers are" not in announced(bob), 10)


def test_the_role_maintains_a_host_without_a_hub(tmp_path: Path) -> None:
    """Run only the role maintenance, on the qmaster's host as an example of a Debian host."""
    inventory, plays = tmp_path / "hosts.yml", tmp_path / "patching.yml"
    hosts = {"plain": {"ansible_host": f"{PREFIX}-qmaster", "ansible_connection": "podman_piped"}}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    plays.write_text(json.dumps([{"hosts": "plain", "roles": ["maintenance"]}]))
    command = ["ansible-playbook", "--inventory", str(inventory), str(plays)]
    variables = {
        "maintenance_weekday": "Sun",
        "maintenance_week": "last",
        "maintenance_time_zone": "Europe/Helsinki",
        "maintenance_reboot": "when_required",
    }

    def deploy(**changed: object) -> subprocess.CompletedProcess[str]:
        extra = ["--extra-vars", json.dumps(variables | changed)]
        return subprocess.run(
            [*command, *extra], cwd=ROOT, capture_output=True, text=True, check=False
        )

    try:
        wrong = deploy(maintenance_time_zone="Europe/Atlantis")
        assert wrong.returncode != 0 and "systemd cannot parse" in output(wrong)
        done = deploy()
        assert done.returncode == 0, output(done)
        again = deploy()
        assert "changed=0" in again.stdout, output(again)
        assert "Sun *-*~07/1 03:26:00 Europe/Helsinki" in run("qmaster", f"{PROGRAM} plan")
        assert host("qmaster").run(f"{PROGRAM} now").rc == 0
        assert last("qmaster")["result"] == "done"
    finally:
        run(
            "qmaster",
            "systemctl disable --now jupyterhub-maintenance.timer"
            " jupyterhub-maintenance-notice.timer jupyterhub-maintenance-check.service",
        )
