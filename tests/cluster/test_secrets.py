"""A session's token and private key are nowhere another user of the cluster can read them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from cluster import PREFIX, LogIn, host
from hub_client import wait_for

#: Where Grid Engine, the session and its programs leave files on a worker.
PLACES = (
    "/var/spool/gridengine",
    "/var/lib/gridengine",
    "/opt/jupyterhub-session",
    "/home",
    "/run",
    "/tmp",
    "/var/tmp",
)


def files_with(secrets: list[str], worker: str, *where: str) -> list[str]:
    """Return the files on a worker in which another user can read one of the secrets."""
    search = subprocess.run(
        # They go in through standard input, or the search would find itself.
        ["podman", "exec", "--interactive", "--user", "bob", f"{PREFIX}-{worker}"]
        + ["sh", "-c", f"grep -slF -D skip -f - {' '.join(where)}"],
        input="\n".join(secrets),
        capture_output=True,
        text=True,
        check=False,
    )
    return search.stdout.splitlines()


def find_nothing(secrets: list[str], job: int, hub_host: Any) -> None:
    """Look for a session's secrets wherever another user can look."""
    told = ""
    for command in (f"qstat -j {job}", f"qstat -xml -j {job}"):
        # After its end Grid Engine tells nobody anything any more.
        told += hub_host.run(f"runuser -u bob -- {command}").stdout
    assert not [secret for secret in secrets if secret in told]
    for name in ("exec1", "exec2"):
        # On the disks; and what is open in a process, what it was started with, its environment.
        of_processes = [f"/proc/[0-9]*/{each}" for each in ("environ", "cmdline", "fd/*")]
        assert files_with(secrets, name, "-r", *PLACES) == []
        assert files_with(secrets, name, *of_processes) == []
    # Logs that only root can read have none either.
    for name in ("hub", "proxy", "exec1", "exec2"):
        journal = host(name).check_output("journalctl --no-pager -o cat")
        assert not [secret for secret in secrets if secret in journal]


def test_token_and_key_are_readable_by_their_owner_only(
    login: LogIn, hub_host: Any, qmaster_host: Any
) -> None:
    alice = login("alice")
    waiting = "/home/alice/.jupyterhub-sessions/*.json"
    qmaster_host.check_output("qmod -d all.q")
    try:
        alice.choose(cores=1, memory=1, run_time=1)
        content = json.loads(
            wait_for("the file waits", lambda: hub_host.run(f"cat {waiting}").stdout)
        )
        token = content["environment"]["JUPYTERHUB_API_TOKEN"]
        # A line of its own identifies a key.
        key = content["tls"]["key"].splitlines()[1]
        assert len(token) >= 20 and len(key) >= 60
        job = wait_for("the job", lambda: number_of_job(hub_host))
        assert "alice" in hub_host.check_output(f"runuser -u bob -- qstat -j {job}")
        assert hub_host.run(f"runuser -u bob -- cat {waiting}").rc != 0
        find_nothing([token, key], job, hub_host)
    finally:
        qmaster_host.check_output("qmod -e all.q")
    alice.wait_until_ready()
    # The file they came in was deleted when it was read.
    assert hub_host.run(f"ls {waiting}").rc != 0
    alice.open_lab()
    kernel = alice.start_kernel()
    read = "import os; print(open(os.environ['JUPYTERHUB_SSL_KEYFILE']).read())"
    assert key in alice.run(kernel, read)  # its owner has it
    find_nothing([token, key], job, hub_host)
    alice.stop()
    find_nothing([token, key], job, hub_host)


def number_of_job(hub_host: Any) -> int:
    """Return the number of alice's job, or 0."""
    lines = hub_host.run("runuser -u alice -- qstat -u alice").stdout.splitlines()
    return int(lines[2].split()[0]) if len(lines) > 2 else 0


def test_the_search_would_find_a_token_that_leaks(exec1_host: Any) -> None:
    exec1_host.check_output("install -m 0644 /dev/null /tmp/leak && echo abc123secret > /tmp/leak")
    try:
        assert files_with(["no-such-secret-anywhere", "abc123secret"], "exec1", "-r", *PLACES) == [
            "/tmp/leak"
        ]
    finally:
        exec1_host.check_output("rm /tmp/leak")


def test_secrets_on_the_hub_are_for_root_and_the_hub_only(hub_host: Any) -> None:
    for path, owner in (
        ("/etc/jupyterhub/secrets/proxy_auth_token", "root"),
        ("/etc/jupyterhub/secrets/hub.env", "root"),
        ("/var/lib/jupyterhub/cookie_secret", "jupyterhub"),
        ("/var/lib/jupyterhub/jupyterhub.sqlite", "jupyterhub"),
    ):
        file = hub_host.file(path)
        assert file.user == owner, path
        assert file.mode == 0o600, path
