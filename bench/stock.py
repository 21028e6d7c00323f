"""Set up what people would use instead: JupyterHub with batchspawner, as their documentation says.

The stock hub runs on the host of our hub and submits to the same Grid Engine; its sessions run on
the same workers. It is in an environment of its own with everything that PyPI delivers, so what
our lock leaves out does not help it. Where a package is in our lock files, the version is the same.

* It runs as root and uses sudo, PAM and SQLite, which are the defaults.
* It has the proxy that it starts itself, with TLS.
* Its intervals are those that batchspawner and JupyterHub deliver.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from bench.demo import ROOT, WORKERS, address, answers, copy_folder, delete_jobs, inside, wait_for

FOLDER = "/opt/gridhub-bench"
STATE = "/var/lib/gridhub-bench"
UNIT = "gridhub-bench-stock"
CHP = (
    f"{FOLDER}/node/bin/node "
    f"{FOLDER}/node/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
)
HOST = address("hub")
URL = f"https://{HOST}:18443"
LOCKS = [ROOT / f"roles/{role}/files/requirements.txt" for role in ("sge_exec", "jupyterhub")]
#: What people install on workers and hub. PyPI says what else these need; batchspawner does not
#: say that it needs JupyterHub.
PACKAGES = ("batchspawner", "ipykernel", "jupyterhub", "jupyterlab")
#: A version with its condition, such as ``soupsieve==2.10 ; python_full_version < '3.11.5'``.
PINNED = re.compile(r"^([A-Za-z0-9_.-]+==[^\\\n]+?) \\$", re.MULTILINE)

#: Grid Engine starts jobs with /bin/sh, which does not know ``set -o pipefail`` of batchspawner's
#: job script; and this cluster wants to know how much memory a job may use.
CONFIG = f"""
import batchspawner

c.JupyterHub.bind_url = "{URL}"
c.JupyterHub.ssl_cert = "{STATE}/stock.crt"
c.JupyterHub.ssl_key = "{STATE}/stock.key"
c.JupyterHub.hub_ip = "{HOST}"
c.JupyterHub.hub_port = 18081
c.JupyterHub.db_url = "sqlite:///{STATE}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "{STATE}/cookie_secret"
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:18001"
c.ConfigurableHTTPProxy.command = "{CHP}".split()
c.ConfigurableHTTPProxy.pid_file = "{STATE}/proxy.pid"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{"admin"}}

c.JupyterHub.spawner_class = "batchspawner.GridengineSpawner"
c.JupyterHub.concurrent_spawn_limit = 0
# sudo and Grid Engine set a PATH of their own.
c.BatchSpawnerBase.batchspawner_singleuser_cmd = "{FOLDER}/env/bin/batchspawner-singleuser"
c.Spawner.cmd = ["{FOLDER}/env/bin/jupyterhub-singleuser"]
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = 120
c.BatchSpawnerBase.req_options = "-S /bin/bash -l h_vmem=1G,h_rt=1:0:0"
c.Spawner.options_form = "<p>One core, 1 GB, one hour.</p>"
"""


def versions() -> list[str]:
    """Return the pinned versions of our lock files, without hashes."""
    found = (PINNED.findall(lock.read_text(encoding="utf-8")) for lock in LOCKS)
    return sorted({line for lines in found for line in lines})


@contextlib.contextmanager
def environment() -> Iterator[None]:
    """Install the environment of PyPI on the hub's host and the workers; remove it afterwards."""
    try:
        remove()
        install = (
            f"mkdir -p {FOLDER}; python3 -m venv {FOLDER}/env; cat > {FOLDER}/versions; "
            f"PIP_CERT=/etc/ssl/certs/ca-certificates.crt {FOLDER}/env/bin/pip install --quiet "
            "--no-input --only-binary :all: --no-cache-dir --disable-pip-version-check "
            f"--constraint {FOLDER}/versions {' '.join(PACKAGES)}"
        )
        inside("exec1", install, "\n".join(versions()) + "\n")
        for host in ("exec2", "hub"):
            copy_folder("exec1", FOLDER, host, "/opt")
        yield
    finally:
        remove()


def remove() -> None:
    """Remove everything that this module sets up, also what an earlier run has left."""
    stop()
    # A program in a container goes on when this one is interrupted.
    for host in ("hub", *WORKERS):
        inside(host, f"pkill -KILL -f ^{FOLDER}/ || true; rm -rf {FOLDER} {STATE}")


@contextlib.contextmanager
def hub(extra: str = "") -> Iterator[None]:
    """Run the stock hub, whose environment is installed; stop it afterwards, and forget its users.

    :param extra: further lines of its configuration.
    """
    stop()
    copy_node()
    certificate()
    inside("hub", f"cat > {STATE}/config.py", CONFIG + extra)
    try:
        start()
        yield
    finally:
        stop()
        delete_jobs("-u '*' spawner-jupyterhub")
        inside("hub", f"rm -rf {STATE}")


def certificate() -> None:
    """Make the folder of the stock hub on our hub's host, with a certificate for its proxy."""
    inside(
        "hub",
        f"rm -rf {STATE}; mkdir -m 700 {STATE}; cd {STATE}; openssl req -x509 -nodes "
        "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=stock "
        f"-addext subjectAltName=IP:{HOST} -keyout stock.key -out stock.crt "
        "2> /dev/null",
    )


def stop() -> None:
    """Stop the stock hub and its proxy."""
    inside("hub", f"systemctl stop {UNIT} 2> /dev/null || true")


def start() -> None:
    """Start the stock hub, and wait until it answers."""
    inside(
        "hub",
        f"systemd-run --quiet --collect --unit={UNIT} --working-directory={STATE} "
        f"--setenv=PATH={FOLDER}/env/bin:/usr/bin:/bin --setenv=SGE_ROOT=/var/lib/gridengine "
        f"{FOLDER}/env/bin/jupyterhub --config={STATE}/config.py",
    )
    wait_for("the stock hub answers", lambda: answers(f"{URL}/hub/health"), 120)


def copy_node() -> None:
    """Give the stock hub the same configurable-http-proxy and Node.js that ours uses."""
    inside("hub", f"rm -rf {FOLDER}/node")
    copy_folder("proxy", "/opt/jupyterhub-proxy/current/node", "hub", FOLDER, links="h")
