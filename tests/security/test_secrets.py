"""A person searches for others' tokens, keys and passwords, wherever programs leave traces."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import PREFIX, LogIn, host
from conftest import restart_hub
from hub_client import HubClient, wait_for
from person import IN_MEMORY, start_with_secrets
from playbooks import playbook

#: Folders in which Grid Engine, the session and its programs leave files on a worker.
PLACES = (
    "/var/spool/gridengine",
    "/var/lib/gridengine",
    "/opt/jupyterhub-session",
    "/home",
    "/run",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/dev/shm",
    "/etc",
    "/srv",
)
#: Folders in which programs leave files on the hosts of hub and proxy.
ELSEWHERE = ("/dev/shm", "/etc", "/home", "/opt", "/run", "/srv", "/tmp", "/var")

CONFIG = "/etc/jupyterhub/jupyterhub_config.py"
PROXY_UNIT = "/etc/systemd/system/jupyterhub-proxy.service"
MAINTENANCE = "/etc/gridhub/maintenance.json"
PROXY_TOKEN = "/etc/jupyterhub/secrets/proxy_auth_token"
HUB_STATE = "/var/lib/jupyterhub"


def files_with(secrets: list[str], name: str, *where: str) -> list[str]:
    """Return a host's files in which the user bob can read one of these secrets."""
    search = subprocess.run(
        # Pass the secrets on standard input. If they were arguments, the search would find itself.
        ["podman", "exec", "--interactive", "--user", "bob", f"{PREFIX}-{name}"]
        + ["sh", "-c", f"grep -slF -D skip -f - {' '.join(where)}"],
        input="\n".join(secrets),
        capture_output=True,
        text=True,
        check=False,
    )
    return search.stdout.splitlines()


def check_that_no_secret_leaks(secrets: list[str], job: int, hub_host: Any) -> None:
    """Search for a session's secrets in every place that another user can read, and in the logs."""
    details = ""
    for command in (f"qstat -j {job}", f"qstat -xml -j {job}"):
        # After the end of the job, both commands print nothing.
        details += hub_host.run(f"runuser -u bob -- {command}").stdout
    assert not [secret for secret in secrets if secret in details]
    for name in ("hub", "proxy", "qmaster", "exec1", "exec2"):
        # Search the disks, and the open files, arguments and environment of every process.
        of_processes = [f"/proc/[0-9]*/{each}" for each in ("environ", "cmdline", "fd/*")]
        places = PLACES if name.startswith("exec") else ELSEWHERE
        assert files_with(secrets, name, "-r", *places) == []
        assert files_with(secrets, name, *of_processes) == []
    # The secrets must not even be in the logs that only root can read.
    for name in ("hub", "proxy", "qmaster", "exec1", "exec2"):
        journal = host(name).check_output("journalctl --no-pager -o cat")
        assert not [secret for secret in secrets if secret in journal]


@pytest.mark.attack(
    "a session's token and key, while it waits, while it runs and after its end",
    outcome="Only the person can read them: no file, `qstat -j`, argument or log shows them.",
)
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
        # One line is enough to identify the key.
        key = content["tls"]["key"].splitlines()[1]
        assert len(token) >= 20 and len(key) >= 60
        job = wait_for("the job", lambda: number_of_job(hub_host))
        session = hub_host.check_output(f"basename {waiting} .json")
        assert "alice" in hub_host.check_output(f"runuser -u bob -- qstat -j {job}")
        assert hub_host.run(f"runuser -u bob -- cat {waiting}").rc != 0
        check_that_no_secret_leaks([token, key], job, hub_host)
    finally:
        qmaster_host.check_output("qmod -e all.q")
    alice.wait_until_ready()
    # The session has read the file and deleted it.
    assert hub_host.run(f"ls {waiting}").rc != 0
    alice.open_lab()
    kernel = alice.start_kernel()
    read = f"{IN_MEMORY}\nprint(open(in_memory('key')).read())"
    assert key in alice.run(kernel, read)  # control: the owner can read the key
    # Control: the search finds the running job's name, so it does read Grid Engine's files.
    of_the_job = [
        path
        for name in ("exec1", "exec2")
        for path in files_with([f"jupyterhub-{session}"], name, "-r", *PLACES)
    ]
    assert any(f"/active_jobs/{job}." in path for path in of_the_job), of_the_job
    check_that_no_secret_leaks([token, key], job, hub_host)
    alice.stop()
    check_that_no_secret_leaks([token, key], job, hub_host)


def number_of_job(hub_host: Any) -> int:
    """Return the number of alice's job, or 0 if she has none."""
    lines = hub_host.run("runuser -u alice -- qstat -u alice").stdout.splitlines()
    return int(lines[2].split()[0]) if len(lines) > 2 else 0


@pytest.mark.attack("a token in a file that all users can read", outcome="The search finds it.")
@pytest.mark.parametrize(("name", "places"), [("exec1", PLACES), ("proxy", ELSEWHERE)])
def test_the_search_finds_a_leaked_token(name: str, places: tuple[str, ...]) -> None:
    leaks = {f"{place}/leak" for place in ("/dev/shm", "/etc", "/opt", "/srv", "/tmp", "/var/log")}
    if name == "exec1":
        leaks ^= {"/opt/leak", "/opt/jupyterhub-session/leak"}
    plant = "install -m 0644 /dev/null {0} && echo abc123secret > {0}"
    host(name).check_output(" && ".join(map(plant.format, leaks)))
    try:
        secrets = ["no-such-secret-anywhere", "abc123secret"]
        assert set(files_with(secrets, name, "-r", *places)) == leaks
    finally:
        host(name).check_output(f"rm {' '.join(leaks)}")


@pytest.mark.attack(
    "the hub's secrets and its database", outcome="Mode 0600; the database holds hashes of tokens."
)
def test_only_root_and_the_hub_can_read_the_hubs_secrets(hub_host: Any) -> None:
    for path, owner in (
        ("/etc/jupyterhub/secrets/proxy_auth_token", "root"),
        ("/etc/jupyterhub/secrets/hub.env", "root"),
        ("/var/lib/jupyterhub/cookie_secret", "jupyterhub"),
        ("/var/lib/jupyterhub/jupyterhub.sqlite", "jupyterhub"),
    ):
        file = hub_host.file(path)
        assert file.user == owner, path
        assert file.mode == 0o600, path


def secret_line(key: str) -> str:
    """Return one line of a key in PEM, which is enough to identify the key."""
    return key.splitlines()[2]


def standing_secrets() -> dict[str, str]:
    """Return the permanent secrets of hub and proxy: token, cookie secret, and one line per key."""
    hub = host("hub")
    secrets = {
        "the proxy's token": hub.file(PROXY_TOKEN).content_string.strip(),
        "the cookies' secret": hub.file(f"{HUB_STATE}/cookie_secret").content_string.split()[0],
    }
    for name, folder in (("hub", HUB_STATE), ("proxy", "/etc/jupyterhub-proxy")):
        machine = host(name)
        for path in machine.check_output(f"find {folder} -name '*.key'").split():
            secrets[path] = secret_line(machine.file(path).content_string)
    assert len(secrets) >= 8
    assert all(len(secret) >= 40 for secret in secrets.values())
    return secrets


def found(secrets: dict[str, str], text: str) -> list[str]:
    return sorted(name for name, secret in secrets.items() if secret in text)


def stored(hub_host: Any) -> str:
    """Return the content of the hub's database."""
    content = hub_host.check_output(f"cat {HUB_STATE}/jupyterhub.sqlite* | tr -cd '[:print:]'")
    assert "alice" in content
    return str(content)


def read_logs() -> dict[str, str]:
    """Return the logs of hub, proxy, nginx and the workers."""
    logs = {
        name: str(host(name).check_output("journalctl --quiet --no-pager -o cat"))
        for name in ("hub", "proxy", "exec1", "exec2")
    }
    logs["nginx"] = str(host("proxy").check_output("cat /var/log/nginx/*.log"))
    return logs


@pytest.fixture
def deployed(hub_host: Any, proxy_host: Any) -> Iterator[str]:
    """Deploy hub and proxy with new secrets, and let them log at the level debug.

    :returns: Ansible's most verbose output.
    """
    saved = [(hub_host, CONFIG), (hub_host, MAINTENANCE), (proxy_host, PROXY_UNIT)]
    for machine, path in saved:
        machine.check_output(f"cp -a {path} {path}.before")
    hub_host.check_output(f"rm {PROXY_TOKEN}")
    proxy_host.check_output("rm -r /etc/jupyterhub-proxy/internal-tls")
    settings = {
        "jupyterhub_extra_config": f"c.JupyterHub.log_level = 'DEBUG'  # {OF_THE_SITE}",
        "proxy_chp_arguments": ["--log-level=debug"],
        "maintenance_backup_command": ["/bin/true", OF_THE_SITE],
    }
    run = playbook("site.yml", "-vvv", "--diff", "--limit", "hub,proxy", **settings)
    assert run.returncode == 0, run.stdout[-3000:]
    yield run.stdout + run.stderr
    for machine, path in saved:
        machine.check_output(f"mv {path}.before {path} && systemctl daemon-reload")
    proxy_host.check_output("systemctl restart jupyterhub-proxy")
    restart_hub(hub_host)


#: A secret that the site puts into the configuration of hub and maintenance.
OF_THE_SITE = f"password-{uuid.uuid4().hex}"


@pytest.mark.attack(
    "Ansible's output and diffs (`-vvv --diff`), and all logs at the level debug",
    outcome="No token, key, cookie, password or login code.",
)
def test_ansible_and_logs_at_level_debug_show_no_secrets(
    deployed: str, base_url: str, passwords: dict[str, str]
) -> None:
    secrets = standing_secrets() | {"the site's": OF_THE_SITE}
    assert PROXY_TOKEN in deployed and "+++ after" in deployed, "not verbose"
    assert found(secrets, deployed) == []
    alice = HubClient(base_url, "alice")
    wait_for("the hub is back", lambda: alice.get("/hub/login").status_code == 200)
    alice.log_in(passwords["alice"])
    alice.stop()
    content = start_with_secrets(alice)
    page = alice.open_lab()
    secrets["password"] = passwords["alice"]
    secrets["token"] = content["environment"]["JUPYTERHUB_API_TOKEN"]
    secrets["key"] = secret_line(content["tls"]["key"])
    # A cookie ends with a signature and is worthless without it, so look only for the signature.
    for cookie in alice.http.cookies:
        if cookie.name != "_xsrf":
            secrets[f"cookie {cookie.name}"] = str(cookie.value).strip('"').rpartition("|")[2]
    codes = re.findall(r"[?&]code=(\w+)", " ".join(each.url for each in [*page.history, page]))
    assert codes, "no login code in any address"
    secrets["code"] = codes[0]
    planted = f"planted-{uuid.uuid4().hex}"
    alice.get(f"/hub/{planted}")
    while_running = stored(host("hub"))
    alice.stop()
    logs = read_logs()
    # Control: ``found`` finds the planted text, which is not secret, in each log.
    for name in ("hub", "proxy", "nginx"):
        assert found({"planted": planted}, logs[name]) == ["planted"], name
    assert "[D " in logs["hub"]
    assert {name: found(secrets, text) for name, text in logs.items() if found(secrets, text)} == {}
    # Other accounts must not find the secrets in any file or process.
    for name in ("hub", "proxy", "exec1", "exec2"):
        leak = f"install -m 0644 /dev/null /tmp/leak && echo {planted} > /tmp/leak"
        host(name).check_output(leak)
        places = PLACES if name.startswith("exec") else ELSEWHERE
        assert files_with([*secrets.values(), planted], name, "-r", *places) == ["/tmp/leak"]
        host(name).check_output("rm /tmp/leak")
        of_processes = [f"/proc/[0-9]*/{each}" for each in ("environ", "cmdline", "fd/*")]
        assert files_with(list(secrets.values()), name, *of_processes) == []
    own_log = host("hub").check_output("cat /home/alice/.jupyterhub-sessions/*.log")
    # This cookie gives no access: it identifies the browser at a logout. Besides, only alice can
    # read her log.
    harmless = {"cookie jupyterhub-session-id"}
    assert set(found(secrets, own_log)) <= harmless
    assert set(found(secrets, while_running)) <= harmless
    assert found(secrets, stored(host("hub"))) == []


#: A program that crashes.
CRASH = "import os; os.abort()"

#: Code for a session. It prints three numbers: how many core dumps a crash leaves, how many core
#: dumps a crash leaves with a higher limit for their size, and this limit of the session's server.
CRASHES = f"""
import os, resource, subprocess, sys, tempfile
core = resource.RLIMIT_CORE
def crash(limit):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", {CRASH!r}], cwd=folder,
                       preexec_fn=lambda: resource.setrlimit(core, limit))
        return len(os.listdir(folder))
soft, hard = resource.getrlimit(core)
print(crash((soft, hard)), crash((hard, hard)), resource.prlimit(os.getppid(), core)[0])
"""


@pytest.mark.attack(
    "a crash of the hub, or in a session",
    outcome="No core dump, neither as a file nor for a program that collects them.",
)
def test_a_crash_leaves_no_core_dump(login: LogIn, hub_host: Any, proxy_host: Any) -> None:
    # With a higher limit, a crash leaves a file in the working folder, unless the machine puts core
    # dumps elsewhere or hands them to a program. The session's own limit must prevent all core
    # dumps.
    files = hub_host.file("/proc/sys/kernel/core_pattern").content_string.strip()
    written = 0 if files.startswith(("|", "/")) else 1
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    alice.open_lab()
    dumped, with_more, limit = map(int, alice.run(alice.start_kernel(), CRASHES).split())
    assert (dumped, with_more, limit) == (0, written, 1)

    def dumps() -> list[str]:
        return str(hub_host.check_output(f"find {HUB_STATE} -name 'core*' -newer {CONFIG}")).split()

    assert dumps() == []
    hub_host.run(
        f"systemd-run --quiet --wait --collect --uid=jupyterhub -p WorkingDirectory={HUB_STATE}"
        f" -p LimitCORE=infinity python3 -c {shlex.quote(CRASH)}"
    )
    control = dumps()
    hub_host.check_output(f"rm -f {' '.join(control)}")
    assert len(control) == written
    hub_host.check_output("systemctl kill --kill-whom=main --signal=ABRT jupyterhub")
    wait_for("the hub is back", lambda: alice.get("/hub/home").status_code == 200)
    assert dumps() == []
    for machine, unit in (
        (hub_host, "jupyterhub"),
        (hub_host, "jupyterhub-broker@x"),
        (hub_host, "jupyterhub-broker-ready@1"),
        (proxy_host, "jupyterhub-proxy"),
        (proxy_host, "nginx"),
    ):
        assert machine.check_output(f"systemctl show -P LimitCORE {unit}") == "1", unit
