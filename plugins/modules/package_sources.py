#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Ask the package sources that a deployment would use, as the deployment would ask them."""

from __future__ import annotations

import concurrent.futures
import configparser
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: package_sources
short_description: Ask the package sources that a deployment would use
description:
  - Asks apt's sources, pip's index and npm's registry with the host's own settings.
  - Changes nothing.
  - A source is left out if the deployment would not use it now, because apt's lists are new
    enough, or because the environment is installed.
author: GridHub contributors
options:
  environments:
    description:
      - The Python environments of the host. C(name) is the variable with C(settings) for pip and
        npm, C(folder) the environment, C(python) its interpreter, C(is_own) whether that is the
        distribution's, which the deployment installs, C(package) one of its packages,
        C(npm_package) one of npm's packages if there are any, C(ca_bundle) the certificate
        authorities.
    type: list
    elements: dict
    default: []
  valid:
    description: For how many seconds apt's lists are new enough.
    type: int
    default: 86400
"""

EXAMPLES = """
- name: Ask the sources of the hub's host
  gridhub.gridhub.package_sources:
    environments:
      - name: jupyterhub_environment
        folder: /opt/jupyterhub/environments/0123
        python: python3
        is_own: true
        settings: {PIP_INDEX_URL: https://pypi.example.org/simple}
        package: jupyterhub
        npm_package: ""
        ca_bundle: /etc/ssl/certs/ca-certificates.crt
"""

RETURN = """
sources:
  description:
    - Each source that was asked, with C(kind) (apt, pip or npm), C(url), C(name) and C(reason); the
      reason is empty if the source has answered.
  returned: always
  type: list
pythons:
  description:
    - Each interpreter, with C(name), C(path), C(version) and C(is_own); the version is empty if it
      does not run.
  returned: always
  type: list
"""

#: Time limits of one query and of one command, in seconds.
ANSWER_WITHIN = 10
COMMAND_WITHIN = 30
LISTS = "/var/lib/apt/lists"
HELPER = "/usr/lib/apt/apt-helper"
APT = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=%d" % ANSWER_WITHIN)
APT += ("-o", "Acquire::https::Timeout=%d" % ANSWER_WITHIN)

#: A program that asks for an address with the proxy of its environment. Any answer proves that the
#: server can be reached; only a missing package and a broken server are failures.
ASK = """
import ssl, sys, urllib.error, urllib.request
url, bundle, seconds = sys.argv[1:]
try:
    context = ssl.create_default_context(cafile=bundle or None)
    urllib.request.urlopen(url, timeout=float(seconds), context=context).close()
except urllib.error.HTTPError as error:
    if error.code == 404 or error.code >= 500:
        sys.exit("%d %s" % (error.code, error.reason))
except urllib.error.URLError as error:
    sys.exit(str(error.reason))
except (OSError, ValueError) as error:
    sys.exit(str(error) or type(error).__name__)
"""


def run(argv, environment):
    """Run a command with a time limit; return its exit status, output and errors."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=COMMAND_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, "", "no answer within %d s" % COMMAND_WITHIN
    except OSError as error:
        return 127, "", str(error.strerror)
    return (
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


def without_password(url):
    """Return an address without the user and the password."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def releases(text):
    """Return the addresses of the sources' first files from ``apt-get --print-uris update``."""
    return sorted(set(re.findall(r"^'([^']+/InRelease)'", text, re.MULTILINE)))


def ask_apt(url):
    """Return why apt cannot read a source; empty if it can."""
    reason = ""
    with tempfile.TemporaryDirectory() as folder:
        # apt asks as an account of its own.
        os.chmod(folder, 0o755)  # noqa: S103  # nosec B103
        for name in ("InRelease", "Release"):
            target = os.path.join(folder, name)
            command = [HELPER, *APT, "download-file", url[: -len("InRelease")] + name, target]
            code, _, errors = run(command, dict(os.environ, LC_ALL="C"))
            if code == 0:
                return ""
            lines = [line for line in errors.splitlines() if line.startswith("E: Failed to fetch")]
            last = lines[-1].split(None, 5)[-1] if lines else errors.strip()
            reason = reason or without_password(last)
    return reason


def apt_sources(valid):
    """Return apt's sources that a deployment would read now."""
    with contextlib.suppress(OSError):
        files = [each for each in os.listdir(LISTS) if each.endswith("Release")]
        if files and time.time() - os.stat(LISTS).st_mtime < valid:
            return []
    code, text, _ = run(["apt-get", *APT, "--print-uris", "update"], dict(os.environ, LC_ALL="C"))
    return releases(text) if code == 0 else []


def settings_of_pip(environment, home):
    """Return pip's settings, as pip reads them: files, then the environment."""
    found = {}
    for path in (
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        os.path.join(home, ".pip/pip.conf"),
        os.path.join(home, ".config/pip/pip.conf"),
    ):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, OSError, UnicodeError):
            parser.read(path, encoding="utf-8")
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(
                    {key.replace("_", "-"): value for key, value in parser[section].items()}
                )
    for name, value in environment.items():
        if name.startswith("PIP_"):
            found[name[4:].lower().replace("_", "-")] = value
    return found


def settings_of_npm(environment, home):
    """Return npm's settings, as npm reads them: files, then the environment."""
    found = {}
    for path in ("/etc/npmrc", os.path.join(home, ".npmrc")):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            pairs = [line.partition("=") for line in file if "=" in line]
            found.update({key.strip(): value.strip().strip("\"'") for key, _, value in pairs})
    for name, value in environment.items():
        if name.lower().startswith("npm_config_"):
            found[name[11:].lower().replace("_", "-")] = value
    return found


def question(kind, environment):
    """Return the address to ask and the proxy to use for it; no address if there is no index."""
    home = os.path.expanduser("~root")
    variables = dict(os.environ, **environment["settings"])
    if kind == "pip":
        own = settings_of_pip(variables, home)
        if own.get("no-index", "").lower() in ("1", "true", "yes", "on"):
            return "", ""
        index = own.get("index-url", "https://pypi.org/simple").strip()
        return "%s/%s/" % (index.rstrip("/"), environment["package"]), own.get("proxy", "")
    own = settings_of_npm(variables, home)
    registry = own.get("registry", "https://registry.npmjs.org/")
    proxy = own.get("https-proxy") or own.get("proxy", "")
    return "%s/%s" % (registry.rstrip("/"), environment["npm_package"]), proxy


def ask(url, proxy, environment):
    """Return why an address does not answer; empty if it does."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        return "" if os.path.isdir(urllib.parse.unquote(parts.path)) else "there is no such folder"
    variables = dict(os.environ, **{k: str(v) for k, v in environment["settings"].items()})
    if proxy:
        variables.update(dict.fromkeys(("http_proxy", "https_proxy"), proxy))
    bundle = environment["settings"].get("PIP_CERT") or environment["ca_bundle"]
    bundle = bundle if os.path.isfile(bundle) else ""
    # The address goes to the program without its password: everybody can see a command line.
    shown = without_password(url)
    command = [sys.executable, "-c", ASK, shown, bundle, str(ANSWER_WITHIN)]
    code, _, errors = run(command, variables)
    return "" if code == 0 else without_password(errors.strip().splitlines()[-1])


def version_of(python):
    """Return the version of an interpreter, as ``3.11.2``; empty if it does not run."""
    show = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    code, text, _ = run([python, "-c", show], dict(os.environ))
    return text.strip() if code == 0 else ""


def main():
    """Ask all sources at the same time."""
    module = AnsibleModule(
        argument_spec={
            "environments": {"type": "list", "elements": "dict", "default": []},
            "valid": {"type": "int", "default": 86400},
        },
        supports_check_mode=True,
    )
    questions = [("apt", url, "", {"name": ""}) for url in apt_sources(module.params["valid"])]
    pythons = []
    for each in module.params["environments"]:
        if os.path.exists(os.path.join(each["folder"], ".complete")):
            continue
        version = version_of(each["python"])
        found = {"name": each["name"], "path": each["python"], "version": version}
        pythons.append(dict(found, is_own=each["is_own"]))
        for kind in ("pip", "npm") if each["npm_package"] else ("pip",):
            url, proxy = question(kind, each)
            if url:
                questions.append((kind, url, proxy, each))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        reasons = list(
            pool.map(lambda q: ask_apt(q[1]) if q[0] == "apt" else ask(*q[1:]), questions)
        )
    sources = [
        {"kind": kind, "url": without_password(url), "name": each["name"], "reason": reason}
        for (kind, url, _, each), reason in zip(questions, reasons)
    ]
    module.exit_json(changed=False, sources=sources, pythons=pythons)


if __name__ == "__main__":
    main()
