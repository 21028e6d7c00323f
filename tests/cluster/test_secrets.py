"""A session's token is nowhere another user of the cluster can read it."""

from __future__ import annotations

from typing import Any

from conftest import LogIn


def test_the_token_is_readable_by_its_owner_only(
    login: LogIn, hub_host: Any, exec1_host: Any, exec2_host: Any
) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    alice.open_lab()
    kernel = alice.start_kernel()
    token = alice.run(kernel, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
    job = alice.run(kernel, "print(os.environ['JOB_ID'])").strip()
    host = alice.run(kernel, "import socket; print(socket.gethostname())").strip()
    assert len(token) >= 20
    worker = {"exec1": exec1_host, "exec2": exec2_host}[host]

    # What Grid Engine tells everybody about the job.
    for command in (f"qstat -j {job}", f"qstat -xml -j {job}"):
        told = hub_host.check_output(f"runuser -u bob -- {command}")
        assert "alice" in told and token not in told
    # What lies on the worker's disks and in its process table, read as another user.
    found = worker.run(
        "runuser -u bob -- sh -c %s",
        "grep -rslF -e \"$0\" /var/spool/gridengine /var/lib/gridengine /tmp /home /run /opt/jupyterhub-session 2>/dev/null;"
        " grep -slF -e \"$0\" /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true".replace(
            "$0", token
        ),
    )
    # The search's own command line holds the token: only processes of the search may be named.
    leaks = [line for line in found.stdout.splitlines() if not line.startswith("/proc/")]
    assert leaks == []
    arguments = worker.check_output("ps -eo user:20,args").splitlines()
    assert not [line for line in arguments if token in line and not line.startswith(("bob", "root"))]
    # The file it came in was deleted when it was read.
    assert hub_host.check_output("find /home/alice/.jupyterhub-sessions -name '*.json'") == ""


def test_the_search_would_find_a_token_that_leaks(exec1_host: Any) -> None:
    exec1_host.check_output("install -m 0644 /dev/null /tmp/leak && echo abc123secret > /tmp/leak")
    try:
        found = exec1_host.run("runuser -u bob -- grep -rslF -e abc123secret /tmp")
        assert "/tmp/leak" in found.stdout
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
