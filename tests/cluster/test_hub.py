"""The hub's host: the rights of its services, and the requests that the broker accepts."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from cluster import AS_HUB
from hub_client import wait_for

#: A program that sends its argument to the broker and prints the answer.
CALL = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX);"
    " s.connect('/run/jupyterhub-broker.sock'); s.sendall(sys.argv[1].encode());"
    " s.shutdown(socket.SHUT_WR); print(s.recv(65536).decode())"
)

SESSION = "0123456789abcdef" * 2


def ask_broker(hub_host: Any, caller: str, request: object) -> dict[str, Any]:
    answer = hub_host.run("runuser -u %s -- python3 -c %s %s", caller, CALL, json.dumps(request))
    assert answer.rc == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def start(user: str, **changes: object) -> dict[str, object]:
    return {
        "action": "start",
        "user": user,
        "session": SESSION,
        "choice": {},
        "environment": {"JUPYTERHUB_API_TOKEN": "none"},
    } | changes


def test_the_hub_runs_without_any_privilege(hub_host: Any) -> None:
    pid = hub_host.check_output("systemctl show -P MainPID jupyterhub")
    status = hub_host.file(f"/proc/{pid}/status").content_string
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = hub_host.user("jupyterhub").uid
    assert lines["Uid"].split() == [str(uid)] * 4
    assert int(lines["CapBnd"], 16) == 0
    assert int(lines["CapPrm"], 16) == 0
    assert lines["NoNewPrivs"] == "1"
    assert int(lines["Seccomp"]) == 2


def test_the_sandbox_is_effective(hub_host: Any) -> None:
    """In the sandbox of the hub's unit, even root sees no homes and cannot write to the system."""
    settings = hub_host.check_output("systemctl cat jupyterhub.service").splitlines()
    wanted = ("ProtectSystem", "ProtectHome", "PrivateTmp")
    properties = " ".join(f"-p {line}" for line in settings if line.startswith(wanted))
    hub_host.check_output("touch /tmp/seen-from-outside")
    for probe, words in (
        ("touch /opt/jupyterhub/x", "Read-only file system"),
        ("touch /etc/jupyterhub/x", "Read-only file system"),
        ("ls /home/alice", "No such file or directory"),
        ("ls /tmp/seen-from-outside", "No such file or directory"),
    ):
        run = hub_host.run(f"systemd-run --quiet --wait --pipe {properties} {probe}")
        assert run.rc != 0, probe
        assert words in run.stderr, probe
        assert hub_host.run(f"systemd-run --quiet --wait --pipe {probe}").rc == 0, probe
    hub_host.check_output("rm -f /opt/jupyterhub/x /etc/jupyterhub/x /tmp/seen-from-outside")


@pytest.mark.parametrize(("uid", "code"), [("os.getuid()", 0), ("0", 1)], ids=["itself", "root"])
def test_the_sandbox_lets_unix_chkpwd_set_its_own_uid(uid: str, code: int, hub_host: Any) -> None:
    """PAM 1.7 (Debian 13) can check passwords only if ``unix_chkpwd`` may call ``setuid``."""
    settings = hub_host.check_output("systemctl cat jupyterhub.service").splitlines()
    wanted = ("SystemCall", "NoNewPrivileges", "CapabilityBoundingSet")
    properties = " ".join(f"-p {shlex.quote(line)}" for line in settings if line.startswith(wanted))
    probe = f"python3 -c 'import os; os.setuid({uid})'"
    run = hub_host.run(f"systemd-run --quiet --wait --pipe --uid=jupyterhub {properties} {probe}")
    assert run.rc == code, run.stderr


def test_systemd_rates_the_hub_as_well_confined(hub_host: Any) -> None:
    line = hub_host.check_output("systemd-analyze security --no-pager jupyterhub.service | tail -1")
    assert float(line.split()[-3]) <= 2.0, line


@pytest.mark.parametrize("caller", ["root", "alice"])
def test_only_the_hub_may_use_the_broker(hub_host: Any, caller: str) -> None:
    if caller == "root":
        assert ask_broker(hub_host, caller, start("alice"))["kind"] == "refused"
    else:
        answer = hub_host.run("runuser -u %s -- python3 -c %s %s", caller, CALL, "{}")
        assert answer.rc != 0
        assert "PermissionError" in answer.stderr


@pytest.mark.parametrize(
    ("request_body", "kind", "words"),
    [
        (start("root"), "refused", "root is root's account; it cannot have sessions"),
        (start("daemon"), "refused", "system account"),
        (start("dave"), "refused", "may not have sessions"),
        (start("nobody-there"), "refused", "no account"),
        (start("alice", choice={"memory": 64}), "choice", "Memory"),
        (start("bob", choice={"gpus": 1}), "choice", "GPUs"),
        (start("alice", script="/tmp/evil"), "request", "script"),
        (start("-u root"), "refused", "no account"),
        (start("../root"), "request", "user"),
        (start("alice", environment={"LD_PRELOAD": "x"}), "request", "not a variable"),
        (start("alice", session="../" + "0" * 29), "request", "session"),
        ({"action": "stop", "user": "alice", "session": "-u"}, "request", "session"),
        ({"action": "stop", "user": "alice", "session": "*"}, "request", "session"),
    ],
)
def test_the_broker_refuses_requests_that_the_site_does_not_allow(
    hub_host: Any, request_body: object, kind: str, words: str
) -> None:
    answer = ask_broker(hub_host, "jupyterhub", request_body)
    assert not answer["ok"]
    assert answer["kind"] == kind
    assert words in answer["error"]


def test_the_broker_deletes_only_the_persons_own_job(hub_host: Any) -> None:
    """The broker does not delete another person's job with the session's name."""
    job = hub_host.check_output(
        "runuser -u bob -- qsub -terse -h -N jupyterhub-%s -b y -o /dev/null -j y sleep 1000",
        SESSION,
    )
    try:
        stop = {"action": "stop", "user": "alice", "session": SESSION}
        assert ask_broker(hub_host, "jupyterhub", stop)["ok"]
        assert hub_host.run("qstat -j %s", job).rc == 0
        assert ask_broker(hub_host, "jupyterhub", stop | {"user": "bob"})["ok"]
        assert hub_host.run("qstat -j %s", job).rc != 0
    finally:
        hub_host.run("qdel %s", job)


def test_stopping_a_session_that_is_gone_succeeds(hub_host: Any) -> None:
    stop = {"action": "stop", "user": "alice", "session": SESSION}
    assert ask_broker(hub_host, "jupyterhub", stop)["ok"]


def test_the_broker_logs_each_decision_without_secrets(hub_host: Any) -> None:
    ask_broker(
        hub_host,
        "jupyterhub",
        start("dave", environment={"JUPYTERHUB_API_TOKEN": "the-token-of-this-test"}),
    )
    journal = hub_host.check_output("journalctl -t jupyterhub-broker --no-pager -o cat")
    assert f"start for dave, session {SESSION}: refused" in journal
    assert "the-token-of-this-test" not in journal


def test_waiting_brokers_serve_requests_in_processes_of_their_own(hub_host: Any) -> None:
    """The hub's client finds them, and they wait on."""
    units = " ".join(f"jupyterhub-broker-ready@{number}" for number in range(1, 5))

    def waiting() -> set[str]:
        return set(hub_host.check_output(f"systemctl show -P MainPID {units}").split()) - {"0"}

    wait_for("four brokers wait", lambda: len(waiting()) == 4)
    before, since = waiting(), hub_host.check_output("date +%s")
    ask = (
        "import asyncio, sys; from pathlib import Path\n"
        "sys.path.insert(0, '/opt/jupyterhub/current')\n"
        "from gridhub.broker import client, protocol\n"
        f"request = protocol.Stop(user='alice', session='{SESSION}')\n"
        "path = Path('/run/jupyterhub-broker.sock')\n"
        "print(asyncio.run(client.ask(path, request, 30)).ok)"
    )
    python = "/opt/jupyterhub/current/env/bin/python"
    assert hub_host.check_output("runuser -u jupyterhub -- %s -c %s", python, ask) == "True"

    def served_by() -> set[str]:
        journal = "journalctl --quiet -t jupyterhub-broker -g 'stop for alice' -o json --since @"
        return {
            json.loads(line)["_SYSTEMD_UNIT"] + json.loads(line)["_PID"]
            for line in hub_host.check_output(journal + since).splitlines()
        }

    [served] = wait_for("the log has the request", served_by)
    unit, _, process = served.partition(".service")
    assert unit.startswith("jupyterhub-broker-ready@") and process not in before
    assert waiting() == before


def test_batchspawners_own_port_handler_is_gone(hub_host: Any) -> None:
    call = (
        AS_HUB + "try: urllib.request.urlopen("
        '"https://127.0.0.1:8081/hub/api/batchspawner", b"{}", context=context)\n'
        "except urllib.error.HTTPError as error: print(error.code)"
    )
    assert hub_host.check_output("python3 -c %s", call) == "404"
