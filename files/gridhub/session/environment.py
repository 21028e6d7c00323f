# SPDX-License-Identifier: BSD-3-Clause
"""The environments of the server, and of the kernels and terminals that the server starts.

The server's environment has only known variables, so that neither the site's start-up lines nor the
job's own variables change what code the server loads. Kernels and terminals get the environment
that results from the start-up lines, without the session's secrets.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from gridhub.session.rules import Rules

#: The job script hides variables from the server by putting this before their names.
HIDDEN = "GRIDHUB_JOB_"

#: The server's PATH.
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

#: The job's variables that the server may see: its own, and those of Grid Engine (qsub(1)).
_OF_THE_SERVER = re.compile(
    r"LANG|LC_\w+|TZ|TMPDIR|HOSTNAME|ARC|ENVIRONMENT|JOB_\w+|NHOSTS|NQUEUES|NSLOTS|PE|PE_HOSTFILE"
    r"|QUEUE|REQUEST|RESTARTED|SGE_\w+",
    re.ASCII,
)

#: Variables of the server that no kernel and no terminal gets: the session's token, the paths of
#: its key and certificates, and how the server itself was started.
_SECRET = re.compile(
    r"JUPYTERHUB_(API_TOKEN|SSL_\w+|CLIENT_ID|COOKIE_\w+|OAUTH_\w+|DISABLE_USER_CONFIG"
    r"|DEFAULT_URL|ACTIVITY_\w+)|JPY_API_TOKEN",
    re.ASCII,
)

#: The names of shells that run commands. Another program is a shell only if ``/etc/shells`` lists
#: it (shells(5)); some lists also have programs that run no commands.
_SHELLS = frozenset(
    {"ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "mksh", "nu", "pwsh", "sh"}
    | {"tcsh", "xonsh", "yash", "zsh"}
)
_NO_SHELL = frozenset({"nologin", "false", "true", "git-shell", "screen", "tmux"})

#: The usual variables for the number of threads. Programs that find none of these start a thread
#: for each core of the worker, far more than the job's slots.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "JULIA_NUM_THREADS",
    "GOMAXPROCS",
    "LOKY_MAX_CPU_COUNT",
    "MC_CORES",
)

#: The libraries that use ``OMP_NUM_THREADS`` if their own variable is not set.
_LIKE_OMP = THREADS[1:6]

#: The variables by which the libraries for GPUs find the devices they may use.
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

#: What Grid Engine puts before a complex's name for the variable that names the granted things.
_GRANTED = "SGE_HGR_"

#: How Open Cluster Scheduler 9.1 reports the granted amount of a complex without identifiers.
_AMOUNT = re.compile(r"\d+\.\d+", re.ASCII)


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the job's environment with the variables that the job script has hidden."""
    shown = {name: value for name, value in environment.items() if not name.startswith(HIDDEN)}
    hidden = {
        name.removeprefix(HIDDEN): value
        for name, value in environment.items()
        if name.startswith(HIDDEN)
    }
    return shown | hidden


def login_shell(account: pwd.struct_passwd) -> str:
    """Return an account's login shell, or bash if the account has none that runs commands."""
    shell = account.pw_shell
    name = Path(shell).name
    is_shell = name in _SHELLS or (name not in _NO_SHELL and shell in _listed_shells())
    if not is_shell or not os.access(shell, os.X_OK) or not Path(shell).is_file():
        return "/bin/bash"
    return shell


def _listed_shells() -> list[str]:
    try:
        lines = Path("/etc/shells").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines]


def server_environment(job: Mapping[str, str], account: pwd.struct_passwd) -> dict[str, str]:
    """Return the environment of the server, without the variables of JupyterHub.

    :param job: the job's environment.
    """
    known = {name: value for name, value in job.items() if _OF_THE_SERVER.fullmatch(name)}
    return known | {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": login_shell(account),
        "PATH": SYSTEM_PATH,
    }


def slots_here(job: Mapping[str, str]) -> int:
    """Return how many of the job's slots are on this host.

    The job's ``PE_HOSTFILE`` has a line for each host: its name, its slots, a queue and processors
    (sge_pe(5)).
    """
    try:
        lines = Path(job["PE_HOSTFILE"]).read_text(encoding="utf-8").splitlines()
        here = sum(int(line.split()[1]) for line in lines if line.split()[0] == job["HOSTNAME"])
    except (KeyError, OSError, ValueError, IndexError):
        here = 0
    slots = job.get("NSLOTS", "")
    return here or (int(slots) if slots.isdigit() else 0) or 1


def granted_devices(job: Mapping[str, str], complex_name: str) -> str:
    """Return the numbers of the GPUs that Grid Engine granted, such as ``0,2``; empty if not known.

    A Grid Engine that knows each GPU (a complex of type RSMAP) reports the identifiers in
    ``SGE_HGR_COMPLEX``, separated by blanks. An identifier such as ``gpu2`` means number 2. One
    that is listed twice stands for a shared GPU.
    """
    value = job.get(f"{_GRANTED}{complex_name}", "")
    if _AMOUNT.fullmatch(value.strip()):
        return ""
    granted = list(dict.fromkeys(value.replace(",", " ").split()))
    numbers = [re.fullmatch(r"[A-Za-z_]*(\d+)", each) for each in granted]
    if all(numbers):
        return ",".join(str(int(number[1])) for number in numbers if number)
    return ",".join(granted)


def _device_variables(job: Mapping[str, str], gpus: Mapping[str, int]) -> dict[str, str]:
    """Return the variables for GPUs; empty if the menu offers none, or all GPUs are visible.

    :param gpus: the number of requested GPUs for each complex of the menu. The job may have been
        granted other GPUs too, for example by a request file.
    """
    granted = (name.removeprefix(_GRANTED) for name in job if name.startswith(_GRANTED))
    names = dict.fromkeys([*gpus, *(name for name in granted if "gpu" in name.lower())])
    devices = ",".join(filter(None, (granted_devices(job, name) for name in names)))
    if devices:
        return {"CUDA_VISIBLE_DEVICES": devices}
    return dict.fromkeys(DEVICES, "") if gpus and not any(gpus.values()) else {}


def with_programs(path: str, folder: str) -> str:
    """Return a PATH with a folder before the folders of the system.

    The folders that the user or the site added before the system's stay before the new one.
    """
    folders = path.split(":") if path else []
    if folder in folders:
        return path
    system = [n for n, each in enumerate(folders) if each in ("/usr/local/bin", "/usr/bin", "/bin")]
    place = system[0] if system else len(folders)
    return ":".join([*folders[:place], folder, *folders[place:]])


def with_programs_last(path: str, folder: str) -> str:
    """Return a PATH that ends with a folder, unless it has the folder already."""
    folders = path.split(":") if path else []
    return path if folder in folders else ":".join([*folders, folder])


def person_environment(
    start_up: Mapping[str, str],
    job: Mapping[str, str],
    server: Mapping[str, str],
    rules: Rules,
) -> dict[str, str]:
    """Return the environment of the kernels and terminals.

    :param start_up: the result of the start-up lines.
    :param job: the job's environment.
    :param server: the server's environment, with the variables of JupyterHub.

    What the person or the site has set stays, except JupyterHub's own variables.
    """
    threads = dict.fromkeys(THREADS, str(slots_here(job)))
    # A list has a number for each level of nested parallel regions (OpenMP 5.2, section 21.1.2).
    if (number := start_up.get("OMP_NUM_THREADS", "").partition(",")[0].strip()).isdecimal():
        threads |= dict.fromkeys(_LIKE_OMP, number)
    # The variables of JupyterHub, and those that name folders instead of unusable ones of the home.
    own = {
        name: value
        for name, value in server.items()
        if name.startswith("JUPYTER") or name == "IPYTHONDIR"
    }
    environment = (
        threads
        | _device_variables(job, rules.gpus)
        | {name: value for name, value in start_up.items() if not name.startswith(HIDDEN)}
        | own
        | {"SHELL": server["SHELL"]}
    )
    return without_secrets(environment)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the session's secrets."""
    return {name: value for name, value in environment.items() if not _SECRET.fullmatch(name)}


def site_kernel_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a kernel that runs the notebook environment's own Python.

    The kernel must not load code from elsewhere. The dynamic loader's variables are hidden:
    ``kernel.py`` restores them in the running kernel, for the programs that the kernel starts.
    """
    return {
        HIDDEN + name if name.startswith(("LD_", "GLIBC_")) else name: value
        for name, value in environment.items()
        if not name.startswith("PYTHON")
    }
