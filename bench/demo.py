"""Run commands in the containers of the demo, and read what they use of the machine."""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
from urllib.parse import urlsplit

from bench import ROOT
from cluster import BASE_URL, PREFIX, read_passwords
from hub_client import wait_for

__all__ = ["BASE_URL", "PREFIX", "ROOT", "read_passwords", "wait_for"]

PODMAN = "/usr/bin/podman"
#: The first three numbers of the addresses of the containers. This machine reaches them as root.
NETWORK = os.environ.get("GRIDHUB_NETWORK", "10.213.1")
NUMBERS = {"qmaster": 10, "hub": 20, "proxy": 30, "exec1": 41, "exec2": 42}
WORKERS = ("exec1", "exec2")


def address(host: str) -> str:
    """Return the address of a container in the containers' own network."""
    return f"{NETWORK}.{NUMBERS[host]}"


def inside(host: str, script: str, text: str = "", command: tuple[str, ...] = ()) -> str:
    """Run a script in a container with ``text`` as its standard input; return its output.

    :param command: what runs the script, bash by default.
    """
    done = subprocess.run(
        [PODMAN, "exec", "-i", f"{PREFIX}-{host}", *(command or ("bash", "-euc")), script],
        input=text,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"on {host}, exit status {done.returncode}: {script}\n{done.stderr}")
    return done.stdout


def qmaster(script: str) -> str:
    """Run a shell script in the qmaster's container, with access to Grid Engine's commands."""
    return inside("qmaster", f"export SGE_ROOT=/var/lib/gridengine; {script}")


def delete_jobs(which: str) -> None:
    """Delete jobs as a manager of Grid Engine; the qmaster's host may not submit or delete."""
    # qdel also fails if there is no such job.
    inside("hub", f"SGE_ROOT=/var/lib/gridengine qdel {which} > /dev/null || true")


def copy_folder(source: str, path: str, target: str, parent: str, links: str = "") -> None:
    """Copy a folder from a container into a folder of another one.

    :param links: "h" to copy what links lead to, in place of the links.
    """
    above, _, name = path.rpartition("/")
    with subprocess.Popen(
        [PODMAN, "exec", f"{PREFIX}-{source}", "tar", "-C", above, f"-c{links}", name],
        stdout=subprocess.PIPE,
    ) as reading:
        inside_target = [PODMAN, "exec", "-i", f"{PREFIX}-{target}"]
        subprocess.run(
            [*inside_target, "tar", "-C", parent, "-x"], stdin=reading.stdout, check=True
        )


def answers(url: str) -> bool:
    """Return whether a server answers this request with success."""
    target = urlsplit(url)
    context = ssl._create_unverified_context()  # noqa: S323  # HubClient checks the certificate
    link = (
        http.client.HTTPSConnection(target.netloc, context=context)
        if target.scheme == "https"
        else http.client.HTTPConnection(target.netloc)
    )
    try:
        link.request("GET", f"{target.path}?{target.query}")
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
