#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Return what a host knows about names, accounts, folders, ports and Grid Engine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import grp
import json
import os
import pwd
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gridhub.gridhub.plugins.module_utils.ports import (
    PORT_OPTIONS,
    taken_ports,
)

DOCUMENTATION = """
module: site_facts
short_description: Look at a host before GridHub is deployed on it
description:
  - Reads names, accounts, folders, ports and the configuration of Grid Engine. Changes nothing.
author: GridHub contributors
options:
  resolve:
    description: Host names to resolve.
    type: list
    elements: str
    default: []
  connect:
    description: Addresses to connect to, as C(HOST:PORT).
    type: list
    elements: str
    default: []
  ports:
    description: Ports that must be free, or held by one of the units.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The number of the port.
        type: int
        required: true
      addresses:
        description: The addresses on which the service listens.
        type: list
        elements: str
        required: true
      variable:
        description: The variable that gives the service another port or other addresses.
        type: str
        required: true
  units:
    description: Names of GridHub's own units, which may hold the ports.
    type: list
    elements: str
    default: []
  accounts:
    description: Names of accounts.
    type: list
    elements: str
    default: []
  groups:
    description: Names of Unix groups.
    type: list
    elements: str
    default: []
  folders:
    description: Folders that must exist.
    type: list
    elements: str
    default: []
  certificate:
    description:
      - Paths of C(certificate) and C(key) of the web server, and the C(names) it needs; empty on
        other hosts.
    type: dict
    default: {}
  shared:
    description:
      - C(path) and C(owner) of the notebook environment that all workers share, its C(python), and
        C(check), the text of a shell function; empty on hosts that do not build it.
    type: dict
    default: {}
  openid:
    description:
      - C(url) of the discovery document of an OpenID Connect provider, and C(ca), the file with its
        authority or empty; empty on other hosts.
    type: dict
    default: {}
  asked_at:
    description: When the controller asks, on its own clock, in seconds since the epoch.
    type: float
    required: true
  grid:
    description:
      - C(environment) and C(bin_dir) of the commands of a site's Grid Engine, and C(requests) to
        try without submitting anything; empty on other hosts.
    type: dict
    default: {}
"""

EXAMPLES = """
- name: Look at the hub's host
  gridhub.gridhub.site_facts:
    resolve: [exec1, exec2]
    accounts: [alice]
"""

RETURN = """
site:
  description: The results, by option.
  returned: always
  type: dict
"""

#: Time limits of a connection and of a command, in seconds.
CONNECT_WITHIN = 3.0
COMMAND_WITHIN = 10.0


def resolve(name):
    """Return the addresses of a name; an empty list if it has none."""
    try:
        return sorted({each[4][0] for each in socket.getaddrinfo(name, None)})
    except OSError:
        return []


def connect(address):
    """Connect to HOST:PORT; return an empty text, or why it cannot be reached.

    A refused connection shows that the host can be reached, and that nothing listens there yet.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_WITHIN).close()
    except ConnectionRefusedError:
        return ""
    except (socket.gaierror, ValueError):
        return ""  # names and ports have checks of their own
    except OSError as error:
        return "no answer" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
    return ""


def ephemeral_ports():
    """Return the first and last port of outgoing connections, and the ports left out of them."""
    found = []
    for name in ("ip_local_port_range", "ip_local_reserved_ports"):
        try:
            with open("/proc/sys/net/ipv4/" + name, encoding="ascii") as file:
                found.append(file.read().strip())
        except OSError:
            return {}
    return {"range": [int(each) for each in found[0].split()], "reserved": found[1]}


def local_names():
    """Return the names of the accounts in ``/etc/passwd``, without those of a directory service."""
    with (
        contextlib.suppress(OSError),
        open("/etc/passwd", encoding="utf-8", errors="replace") as file,
    ):
        return {line.partition(":")[0] for line in file}
    return set()


def account(name):
    """Return what matters of an account, and of its home; None if there is no such account."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    home = {}
    with contextlib.suppress(OSError):
        status = os.stat(entry.pw_dir)
        home = {"inode": status.st_ino, "uid": status.st_uid}
    return {
        "name": entry.pw_name,
        "uid": entry.pw_uid,
        "home": entry.pw_dir,
        "folder": home,
        "local": entry.pw_name in local_names(),
    }


def group(name):
    """Return the members of a group, as far as it lists them; None if there is no such group."""
    try:
        return grp.getgrnam(name).gr_mem
    except KeyError:
        return None


def members(names):
    """Return the first account that is listed in each group."""
    firsts = [(group(name) or [None])[0] for name in names]
    return {name: account(name) for name in firsts if name}


def run(argv, environment):
    """Run a command with a time limit; return its exit status and both outputs."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return {"rc": 127, "out": "", "err": "%s: %s" % (argv[0], error.strerror)}
    try:
        out, err = process.communicate(timeout=COMMAND_WITHIN)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"rc": 124, "out": "", "err": "no answer within %d s" % COMMAND_WITHIN}
    return {
        "rc": process.returncode,
        "out": out.decode(errors="replace"),
        "err": err.decode(errors="replace"),
    }


def certificate_facts(certificate, key, names):
    """Return what openssl reports of a certificate; an error, or empty without openssl."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}

    def openssl(*arguments):
        return run(["openssl", *arguments], environment)

    for path in (certificate, key):
        if not os.path.isfile(path):
            return {"missing": path}
    read = openssl("x509", "-in", certificate, "-noout", "-pubkey", "-enddate")
    if read["rc"] == 127:
        return {}
    if read["rc"]:
        return {"error": read["err"].strip()}
    # The certificate itself is trusted here, so this checks its dates, not its chain.
    valid = openssl("verify", "-partial_chain", "-trusted", certificate, certificate)
    reasons = [line.partition(" lookup: ")[2] for line in valid["err"].splitlines()]
    public = openssl("pkey", "-in", key, "-pubout", "-passin", "pass:")
    return {
        "end": read["out"].partition("notAfter=")[2].strip(),
        "invalid": ([each for each in reasons if each] or [valid["err"].strip()])[0]
        if valid["rc"]
        else "",
        "key": not public["rc"] and public["out"].strip() in read["out"],
        "names": {
            name: "does match"
            in openssl("x509", "-in", certificate, "-noout", "-checkhost", name)["out"]
            for name in names
        },
    }


#: A Python for the environment must be able to run this.
PYTHON_NEEDS = (
    "import ctypes, ensurepip, sqlite3, ssl, sys, venv; print(sys.version_info >= (3, 11))"
)


def shared_folder(path, owner, python, check):
    """Return what matters of the folder of the shared environment, and of its Python."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    found = {"account": pwd.getpwuid(os.geteuid()).pw_name, "folder": os.path.isdir(path)}
    ran = run([python, "-sE", "-c", PYTHON_NEEDS], environment)
    if ran["rc"]:
        found["python"] = (ran["err"].strip().splitlines() or ["status %d" % ran["rc"]])[-1]
    else:
        found["python"] = "" if ran["out"].strip() == "True" else "older than 3.11"
    if found["folder"]:
        real = os.path.realpath(path)
        words = ["bash", "-c", check + '\ngridhub_untrusted "$@"', "bash", real, owner]
        found["untrusted"] = run(words, environment)["out"].strip()
        found["writable"] = os.access(path, os.W_OK)
        found["own_disk"] = os.stat(path).st_dev == os.stat("/").st_dev
    return found


def openid_document(url, ca):
    """Return what an OpenID Connect provider publishes about itself, or why it cannot be read."""
    try:
        context = ssl.create_default_context(cafile=ca or None)
        # The hub uses no web proxy either.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(url, timeout=COMMAND_WITHIN) as answer:
            return {"url": url, "document": json.loads(answer.read(2**20).decode())}
    except (OSError, ValueError) as error:
        return {"url": url, "error": str(getattr(error, "reason", error))}


def sssd():
    """Return whether SSSD checks passwords on this host, and whether accounts come from it."""
    lines = ""
    with contextlib.suppress(OSError), open("/etc/nsswitch.conf", encoding="utf-8") as file:
        lines = file.read()
    answers = False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as pipe:
        pipe.settimeout(CONNECT_WITHIN)
        pipe.connect("/var/lib/sss/pipes/pam")
        answers = True
    return {
        "answers": answers,
        "in_nsswitch": bool(re.search(r"^passwd:[^#\n]*\bsss\b", lines, re.MULTILINE)),
    }


def grid_engine(environment, bin_dir, requests, requester):
    """Return the parts of Grid Engine's configuration that matter, as its commands print them.

    What the host may not see is None: many a cluster shows its configuration to administrative
    hosts only.
    """
    cell = os.path.join(environment["SGE_ROOT"], environment["SGE_CELL"])
    environment = dict(
        {name: str(value) for name, value in environment.items()},
        PATH=bin_dir + ":/usr/sbin:/usr/bin:/sbin:/bin",
        LC_ALL="C",
    )

    def qconf(*arguments):
        answer = run([bin_dir + "/qconf", *arguments], environment)
        # qconf also exits with 0 when it is denied.
        is_shown = answer["rc"] == 0 and "denied" not in answer["err"] + answer["out"][:200]
        return answer["out"] if is_shown else None

    answer = run([bin_dir + "/qstat", "-s", "a", "-u", "root"], environment)
    # This prints the product and its version; 8.1.9 does so without the qmaster.
    shown = run([bin_dir + "/qstat", "-help"], environment)
    found = {"qstat": answer, "help": "" if shown["rc"] else (shown["out"] or shown["err"])[:200]}
    if answer["rc"]:
        return found
    lists = {"complexes": "-sc", "environments": "-spl", "queues": "-sql"}
    lists.update({"projects": "-sprjl", "global": "-sconf", "scheduler": "-ssconf"})
    for name, option in lists.items():
        found[name] = qconf(option)
    for kind, option in (("environments", "-sp"), ("queues", "-sq")):
        if found[kind] is not None:
            found[kind] = {name: qconf(option, name) for name in found[kind].split()}
    hosts = run([bin_dir + "/qhost"], environment)
    found["hosts"] = hosts["out"] if hosts["rc"] == 0 else None

    def dry_run(request):
        """Ask whether a request could ever be served, as the person who would ask."""
        command = [
            "qsub",
            "-w",
            "v",
            *request["arguments"],
            "-b",
            "y",
            "-o",
            "/dev/null",
            "-j",
            "y",
        ]
        done = run(
            [
                "runuser",
                "-u",
                requester,
                "--",
                bin_dir + "/" + command[0],
                *command[1:],
                "/bin/true",
            ],
            environment,
        )
        return {"name": request["name"], "rc": done["rc"], "words": done["out"] + done["err"]}

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found["requests"] = list(pool.map(dry_run, requests if requester else []))
    found["files"] = {}
    for name in ("sge_request", "sge_qstat"):
        with contextlib.suppress(OSError):
            path = os.path.join(cell, "common", name)
            with open(path, encoding="utf-8", errors="replace") as file:
                found["files"][path] = file.read(65536)
    return found


def main():
    """Gather the facts."""
    lists = {"type": "list", "default": []}
    words = dict(lists, elements="str")
    module = AnsibleModule(
        argument_spec={
            "resolve": words,
            "connect": words,
            "units": words,
            "accounts": words,
            "groups": words,
            "folders": words,
            "ports": dict(lists, elements="dict", options=PORT_OPTIONS),
            "certificate": {"type": "dict", "default": {}},
            "shared": {"type": "dict", "default": {}},
            "openid": {"type": "dict", "default": {}},
            "asked_at": {"type": "float", "required": True},
            "grid": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    given = module.params
    ahead = time.time() - given["asked_at"]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        names = dict(zip(given["resolve"], pool.map(resolve, given["resolve"])))
        reached = dict(zip(given["connect"], pool.map(connect, given["connect"])))
        site = {
            "resolve": names,
            "connect": reached,
            "ephemeral": ephemeral_ports(),
            "taken": taken_ports(given["ports"], given["units"]),
            "accounts": {name: account(name) for name in given["accounts"]},
            "groups": {name: group(name) for name in given["groups"]},
            "members": members(given["groups"]),
            "folders": {path: os.path.isdir(path) for path in given["folders"]},
            "clock": ahead,
            "sssd": sssd(),
        }
    if given["certificate"]:
        site["certificate"] = certificate_facts(**given["certificate"])
    if given["shared"]:
        site["shared"] = shared_folder(**given["shared"])
    if given["openid"]:
        site["openid"] = openid_document(**given["openid"])
    if given["grid"]:
        known = [name for name, found in site["accounts"].items() if found]
        requester = ([*known, *site["members"]] or [""])[0]
        site["grid"] = grid_engine(**given["grid"], requester=requester)
    module.exit_json(changed=False, site=site)


if __name__ == "__main__":
    main()
