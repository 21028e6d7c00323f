"""Attacks on the broker: by a hub that has been taken over, and through traps in a home."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster import LogIn
from conftest import SESSION, Broker, restart_hub
from hub_client import wait_for

FOLDER = "/home/alice/.jupyterhub-sessions"
FILE = f"{FOLDER}/{SESSION}.json"


#: A program that turns the folder into a link to another place and back, again and again.
SWAP = f"""
import itertools, os
folder, link = {FOLDER!r}, "/home/alice/trap"
for target in itertools.cycle(("/home/open", "/etc", "/home/bob")):
    try:
        os.mkdir(folder, 0o755)
        os.rename(folder, f"{{link}}.{{os.urandom(4).hex()}}")
        os.symlink(target, folder)
        os.unlink(folder)
    except OSError:
        if os.path.islink(folder):
            os.unlink(folder)
"""


@pytest.fixture
def trapped_home(hub_host: Any, broker: Broker) -> Iterator[None]:
    """Let the test replace alice's folder for session files; clean up after the test."""
    hub_host.check_output(f"rm -rf {FOLDER}")
    yield
    # The test of the race leaves so many traps that their names would not fit in one command line.
    hub_host.check_output("find /home/alice -maxdepth 1 -name 'trap*' -exec rm -rf {} +")
    hub_host.check_output(f"rm -rf {FOLDER} /home/open /home/bob/precious")
    assert broker.stop()["ok"]


@pytest.mark.attack("a session that the site allows", outcome="Started and stopped, as the person.")
def test_an_allowed_session_is_started_and_stopped(
    broker: Broker, hub_host: Any, qmaster_host: Any, jobs: Callable[[], set[str]]
) -> None:
    """Control: unless the broker starts an allowed session, the refusals below prove nothing."""
    # Keep the job waiting. A running job would end before the check, because no hub knows its
    # session.
    qmaster_host.check_output("qmod -d all.q")
    try:
        answer = broker.start()
        assert answer["ok"], answer
        job = str(answer["job_id"])
        details = hub_host.check_output(f"qstat -j {job}")
        assert "owner:                      alice" in details
        assert "/etc/jupyterhub/session.sh" in details
    finally:
        stopped = broker.stop()
        qmaster_host.check_output("qmod -e all.q")
    assert stopped["ok"], stopped
    assert job not in jobs()


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param(
            {"job_script": "/home/alice/own.sh"},
            "request",
            marks=pytest.mark.attack(
                "another job script", outcome="Refused: there is no such field."
            ),
        ),
        pytest.param(
            {"qsub_arguments": ["-b", "y"]},
            "request",
            marks=pytest.mark.attack(
                "other options for qsub", outcome="Refused: there is no such field."
            ),
        ),
        pytest.param(
            {"choice": {"cores": "1 -b y /bin/sh"}},
            "choice",
            marks=pytest.mark.attack(
                "a choice that looks like an option of qsub", outcome="Refused: not on the menu."
            ),
        ),
        pytest.param({"choice": {"memory": "-o/etc/x"}}, "choice"),
        pytest.param({"choice": {"cores": [1, "-b"]}}, "request"),
        pytest.param({"choice": {"script": "/bin/sh"}}, "choice"),
        pytest.param(
            {"choice": {"memory": 10**9}},
            "choice",
            marks=pytest.mark.attack("more than the menu offers", outcome="Refused."),
        ),
        pytest.param(
            {"user": "bob", "choice": {"gpus": 1}},
            "choice",
            marks=pytest.mark.attack(
                "a choice that is offered to another group only", outcome="Refused for this person."
            ),
        ),
        pytest.param(
            {"user": "root"},
            "refused",
            marks=pytest.mark.attack("a session for root", outcome="Refused."),
        ),
        pytest.param(
            {"user": "sgeadmin"},
            "refused",
            marks=pytest.mark.attack("a session for a system account", outcome="Refused."),
        ),
        pytest.param({"user": "jupyterhub"}, "refused"),
        pytest.param(
            {"user": "dave"},
            "refused",
            marks=pytest.mark.attack(
                "a session for an account that the inventory does not allow", outcome="Refused."
            ),
        ),
        pytest.param(
            # A name may have nearly any form, so only the directory service decides.
            {"user": "-u root"},
            "refused",
            marks=pytest.mark.attack(
                "an option, a path, a uid or a line break as the user name", outcome="Refused."
            ),
        ),
        pytest.param({"user": "../alice"}, "request"),
        pytest.param({"user": "alice\n"}, "request"),
        pytest.param({"user": "1000"}, "refused"),
        pytest.param({"user": "Alice"}, "refused"),
        pytest.param(
            {"session": "../../../../etc/cron.d/x" + "0" * 8},
            "request",
            marks=pytest.mark.attack(
                "a path as the name of a session or a server", outcome="Refused."
            ),
        ),
        pytest.param({"session": SESSION + "\n"}, "request"),
        pytest.param({"server": "../x"}, "request"),
        pytest.param({"server": "a,b=c"}, "request"),
        pytest.param(
            {"environment": {"LD_PRELOAD": "/home/alice/x.so"}},
            "request",
            marks=pytest.mark.attack(
                "a variable that loads code into the session", outcome="Refused."
            ),
        ),
        pytest.param({"environment": {"BASH_ENV": "/home/bob/x"}}, "request"),
        pytest.param(
            {"environment": {"JUPYTERHUB_DEFAULT_URL": "//evil.example.org"}}, "request", marks=()
        ),
        pytest.param({"action": "run"}, "request"),
    ],
)
def test_all_other_requests_are_refused(broker: Broker, changes: dict[str, Any], kind: str) -> None:
    answer = broker.start(**changes)
    assert not answer["ok"]
    assert answer["kind"] == kind, answer


@pytest.mark.attack("stopping a session of root or of a system account", outcome="Refused.")
@pytest.mark.parametrize("user", ["root", "sgeadmin", "daemon", "jupyterhub"])
def test_the_broker_stops_no_session_of_a_system_account(broker: Broker, user: str) -> None:
    answer = broker.stop(user=user)
    assert answer["kind"] == "refused", answer


@pytest.mark.attack("a request from any other account", outcome="Refused, even from root.")
@pytest.mark.parametrize("socket", ["jupyterhub-broker", "jupyterhub-broker-ready"])
def test_only_the_hub_is_served(hub_host: Any, socket: str) -> None:
    for user in ("alice", "www-data", "nobody"):
        assert hub_host.run(f"runuser -u {user} -- test -w /run/{socket}.sock").rc != 0, user
    ask = (
        "import socket; s = socket.socket(socket.AF_UNIX); "
        f"s.connect('/run/{socket}.sock'); s.sendall(b'x'); s.shutdown(1); s.recv(1)"
    )
    since = hub_host.check_output("date +%s")
    hub_host.check_output("python3 -c %s", ask)

    def is_refused() -> bool:
        journal = f"journalctl --quiet -o cat -t jupyterhub-broker --since @{since}"
        return "only jupyterhub may use the broker" in hub_host.check_output(journal)

    wait_for("the log has the refusal", is_refused)


def waiting_brokers(hub_host: Any) -> set[str]:
    """Return the PIDs of the waiting brokers."""
    units = " ".join(f"jupyterhub-broker-ready@{number}" for number in range(1, 5))
    return set(hub_host.check_output(f"systemctl show -P MainPID {units}").split()) - {"0"}


@pytest.mark.attack(
    "stopping the processes of all waiting brokers, as a user could during a request (SIGSTOP)",
    outcome="systemd starts a broker for each request; after 40 s, it replaces the stopped ones.",
)
def test_stopped_brokers_are_replaced(hub_host: Any, login: LogIn) -> None:
    alice = login("alice")
    wait_for("four brokers wait", lambda: len(waiting_brokers(hub_host)) == 4)
    before = waiting_brokers(hub_host)
    hub_host.check_output(f"kill -STOP {' '.join(before)}")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    alice.stop()
    assert waiting_brokers(hub_host) & before, "they were replaced before the session started"
    wait_for(
        "others wait",
        lambda: len(waiting_brokers(hub_host)) == 4 and not waiting_brokers(hub_host) & before,
        90,
    )


#: A submit verifier (jsv(1)) that accepts each job, after it has left a process and a file behind.
LEAVING = """#!/bin/sh
setsid sleep 4242 </dev/null >/dev/null 2>&1 &
touch /tmp/left
while read -r line; do
  case $line in
    START) echo STARTED ;;
    BEGIN) echo RESULT STATE ACCEPT ;;
    QUIT) exit ;;
  esac
done
"""


@pytest.mark.attack(
    "a process and a file that a request leaves in a waiting broker, by a submit verifier",
    outcome="systemd ends what is left; another broker with an empty /tmp takes its place.",
)
def test_nothing_of_a_request_stays_in_a_waiting_broker(hub_host: Any, login: LogIn) -> None:
    alice = login("alice")
    wait_for("four brokers wait", lambda: len(waiting_brokers(hub_host)) == 4)
    before = waiting_brokers(hub_host)
    files = "/home/alice/leaving.sh /home/alice/.sge_request"
    hub_host.check_output("printf %s %s > /home/alice/leaving.sh", "%s", LEAVING)
    hub_host.check_output(
        "echo '-jsv script:/home/alice/leaving.sh' > /home/alice/.sge_request;"
        f" chmod 755 /home/alice/leaving.sh; chown alice: {files}"
    )
    try:
        alice.choose(cores=1, memory=1, run_time=1)
        alice.wait_until_ready()
        wait_for("nothing runs on", lambda: hub_host.run("pgrep -fx 'sleep 4242'").rc != 0)
        wait_for("four brokers wait again", lambda: len(waiting_brokers(hub_host)) == 4)
        assert len(waiting_brokers(hub_host) - before) == 1
        left = "find /tmp/systemd-private-*-jupyterhub-broker-ready*/tmp -mindepth 1"
        assert hub_host.check_output(left) == ""
    finally:
        hub_host.check_output(f"rm -f {files}")
        alice.stop()


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.attack("an oversized request", outcome="Cut off at 64 kB.")
def test_an_oversized_request_is_cut_off(broker: Broker) -> None:
    answer = broker.send(b'{"action": "start", "user": "' + b"a" * 10_000_000)
    assert answer["kind"] == "request"
    assert "longer than" in answer["error"] or answer["error"] == "reset"


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.attack("a request that trickles in", outcome="Cut off after 5 s in total.")
def test_a_slow_request_is_cut_off(broker: Broker) -> None:
    began = time.monotonic()
    answer = broker.send(b'{"action": "start"', pieces=18, pause=2.0)
    assert answer["kind"] == "request"
    assert time.monotonic() - began < 25, "it waited for the end"


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.attack(
    "bytes that are not a request", outcome="Refused; the broker serves the next request."
)
@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[]", b"{" * 60_000, b'{"action": "start", "action": "stop"}']
)
def test_bytes_that_are_not_a_request_are_refused(broker: Broker, data: bytes) -> None:
    assert broker.send(data)["kind"] == "request"


@pytest.mark.usefixtures("trapped_home", "nothing_starts")
@pytest.mark.parametrize(
    "trap",
    [
        pytest.param(
            f"ln -s /home/open {FOLDER}",
            marks=pytest.mark.attack(
                "a link in place of the folder for secrets", outcome="Refused; nothing is written."
            ),
        ),
        pytest.param(
            f"mkdir {FOLDER} && ln -s /home/open/x {FILE}",
            marks=pytest.mark.attack(
                "a symbolic link in place of the file with secrets",
                outcome="Refused; nothing is written.",
            ),
        ),
        pytest.param(
            f"mkdir {FOLDER} && touch trap && ln trap {FILE}",
            marks=pytest.mark.attack(
                "a hard link in place of the file with secrets",
                outcome="Refused; nothing is written.",
            ),
        ),
        pytest.param(
            f"mkdir {FOLDER} && mkfifo {FILE}",
            marks=pytest.mark.attack(
                "a pipe in place of the file with secrets",
                outcome="Refused; the broker does not wait for a reader.",
            ),
        ),
    ],
)
def test_links_and_pipes_in_a_home_are_refused(
    broker: Broker, hub_host: Any, as_alice: Callable[[str], str], trap: str
) -> None:
    hub_host.check_output("install -d -m 0777 -o bob /home/open")
    as_alice(trap)
    token = "the-token-of-this-attack"
    answer = broker.start(environment={"JUPYTERHUB_API_TOKEN": token})
    assert answer["kind"] == "home", answer
    assert hub_host.check_output("ls -A /home/open") == ""
    assert hub_host.run("grep -rsl %s /home --exclude-dir=proc -D skip", token).stdout == ""


@pytest.mark.usefixtures("trapped_home")
@pytest.mark.attack(
    "the folder for secrets replaced by a link while the file is written",
    outcome="Wherever the file lands, the person owns it and only they can read it.",
)
def test_a_race_on_the_folder_reveals_and_destroys_nothing(
    broker: Broker, hub_host: Any, as_alice: Callable[[str], str]
) -> None:
    hub_host.check_output("install -d -m 0777 -o bob /home/open")
    hub_host.check_output("install -m 0600 -o bob /dev/null /home/bob/precious")
    hub_host.check_output(
        "systemd-run --quiet --collect --unit=broker-race --uid=alice python3 -c %s", SWAP
    )
    try:
        answers = [broker.start() for _ in range(8)]
        assert hub_host.service("broker-race").is_running
    finally:
        hub_host.check_output("systemctl stop broker-race")
    assert {answer["kind"] for answer in answers if not answer["ok"]} <= {"home", "grid"}
    found = hub_host.check_output(
        "find /home /etc -name %s -printf '%%u %%m\\n'", f"{SESSION}.json"
    )
    assert set(found.splitlines()) <= {"alice 600"}
    assert hub_host.check_output("stat -c '%U %s' /home/bob/precious") == "bob 0"


@pytest.mark.attack("another person's job with a session's name", outcome="Not deleted.")
def test_another_persons_job_is_not_deleted(broker: Broker, hub_host: Any) -> None:
    job = hub_host.check_output(
        "runuser -u bob -- qsub -terse -h -N jupyterhub-%s -b y -o /dev/null -j y sleep 1000",
        SESSION,
    )
    try:
        assert broker.stop(user="alice")["ok"]
        assert hub_host.run("qstat -j %s", job).rc == 0
    finally:
        hub_host.run("qdel %s", job)


@pytest.mark.attack(
    "many jobs named like the hub's sessions, which it takes for its stray jobs",
    outcome="Deleted two at a time; starts and stops do not wait for them.",
)
def test_many_stray_jobs_do_not_delay_a_start(login: LogIn, hub_host: Any) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    mark = re.search(
        r"<JB_name>jupyterhub-([0-9a-f]{8})", hub_host.check_output("qstat -xml -u '*'")
    )
    assert mark
    alice.stop()
    submit = "qsub -terse -h -b y -o /dev/null -j y -N jupyterhub-%s$(printf %%024x $n) sleep 1000"
    hub_host.check_output(
        "runuser -u bob -- sh -c %s", f"for n in $(seq 150); do {submit % mark[1]} || exit; done"
    )

    def strays() -> int:
        return len(hub_host.check_output("qstat -u bob").splitlines()[2:])

    try:
        restart_hub(hub_host)  # the hub looks for strays when it starts
        wait_for("strays are deleted", lambda: strays() < 150)
        wait_for("the pages are back", lambda: alice.get("/hub/home").status_code == 200)
        alice.choose(cores=1, memory=1, run_time=1)
        alice.wait_until_ready()
        assert strays(), "the start waited for all of them"
        wait_for("all are deleted", lambda: not strays(), 300)
    finally:
        hub_host.run("qdel -u bob")


@pytest.mark.attack(
    "line breaks and secrets in requests, for the broker's log",
    outcome="One line for each decision, without either of them.",
)
def test_the_log_has_one_line_for_each_decision_and_none_is_forged(
    broker: Broker, hub_host: Any
) -> None:
    since = hub_host.check_output("date +%s.%N")
    secret = "token-for-the-log"
    broker.start(user="dave", environment={"JUPYTERHUB_API_TOKEN": secret})
    broker.start(user="x\nstart for alice, session 0: job 1", environment={})
    broker.start(choice={"cores\n\x1b[31mforged": 1})

    def messages_since() -> list[str]:
        log = hub_host.check_output(
            f"journalctl --quiet -t jupyterhub-broker -o json --since @{since}"
        )
        return [json.loads(line)["MESSAGE"] for line in log.splitlines()]

    wait_for("the log has them", lambda: len(messages_since()) >= 3)
    messages = messages_since()
    assert len(messages) == 3, messages
    assert messages[0].startswith(f"start for dave, session {SESSION}: refused (refused): ")
    for message in messages:
        assert message.isprintable()
        assert "refused" in message and secret not in message
