"""A session's token is nowhere another user of the cluster can read it."""

from __future__ import annotations

import subprocess
from typing import Any

from cluster import PREFIX, LogIn

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


def files_with(token: str, host: str, *where: str) -> list[str]:
    """Return the files on a worker in which another user can read the token."""
    search = subprocess.run(
        # The token goes in through standard input, or the search would find itself.
        ["podman", "exec", "--interactive", "--user", "bob", f"{PREFIX}-{host}"]
        + ["sh", "-c", f"grep -slF -f - {' '.join(where)}"],
        input=token,
        capture_output=True,
        text=True,
        check=False,
    )
    return search.stdout.splitlines()


def test_the_token_is_readable_by_its_owner_only(login: LogIn, hub_host: Any) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    alice.open_lab()
    kernel = alice.start_kernel()
    token = alice.run(kernel, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
    job = alice.run(kernel, "print(os.environ['JOB_ID'])").strip()
    host = alice.run(kernel, "import socket; print(socket.gethostname())").strip()
    assert len(token) >= 20

    # What Grid Engine tells everybody about the job.
    for command in (f"qstat -j {job}", f"qstat -xml -j {job}"):
        told = hub_host.check_output(f"runuser -u bob -- {command}")
        assert "alice" in told and token not in told
    # What lies on the worker's disks and in its process table, read as another user.
    assert files_with(token, host, "-r", *PLACES) == []
    assert files_with(token, host, "/proc/[0-9]*/environ", "/proc/[0-9]*/cmdline") == []
    # The file it came in was deleted when it was read.
    assert hub_host.check_output("find /home/alice/.jupyterhub-sessions -name '*.json'") == ""


def test_the_search_would_find_a_token_that_leaks(exec1_host: Any) -> None:
    exec1_host.check_output("install -m 0644 /dev/null /tmp/leak && echo abc123secret > /tmp/leak")
    try:
        assert files_with("abc123secret", "exec1", "-r", *PLACES) == ["/tmp/leak"]
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
