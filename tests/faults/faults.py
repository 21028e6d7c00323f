"""Context managers that cause a fault at the start of a ``with`` and undo it at the end.

A fault is undone even after an error. The ``with`` ends only when the broken part answers again.
The tests run as root on this machine, so that they can break the containers from outside.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from cluster import BASE_URL, PREFIX, host
from hub_client import wait_for

HUB_CONFIG = "/etc/jupyterhub/jupyterhub_config.py"
STATE = "/var/lib/jupyterhub"
UNITS = {
    "qmaster": ["gridengine-master"],
    "hub": ["jupyterhub", "jupyterhub-broker.socket"],
    "proxy": ["jupyterhub-proxy", "nginx"],
    "exec1": ["gridengine-exec"],
    "exec2": ["gridengine-exec"],
}
#: Seconds that a host may take to boot and to start its units.
BOOT = 90.0

Fault = Callable[[], AbstractContextManager[None]]


# -- queries --------------------------------------------------------------------------------------


def machine(*command: str, check: bool = True, seconds: float = 120.0) -> str:
    """Run a command on this machine and return its output."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
    )
    assert not check or done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"
    return done.stdout.strip()


def main_process(name: str) -> str:
    """Return a container's main PID as this machine sees it; "0" if the container is stopped."""
    return machine("podman", "inspect", "--format", "{{.State.Pid}}", f"{PREFIX}-{name}")


def enter(name: str, *command: str, check: bool = True) -> str:
    """Run a command as this machine's root in a container's mount, PID and network namespaces."""
    spaces = ("--mount", "--pid", "--net")  # --pid because mount(8) reads its own entry in /proc
    return machine("nsenter", "--target", main_process(name), *spaces, *command, check=check)


def outside(name: str, *command: str, check: bool = True) -> str:
    """Run one of this machine's commands in a container's network namespace."""
    return machine("nsenter", "--target", main_process(name), "--net", *command, check=check)


def run(name: str, command: str) -> str:
    """Run a shell command on a host; check that it succeeds, and return its output."""
    return str(host(name).check_output(command))


def answers(name: str, command: str) -> bool:
    return bool(host(name).run(f"timeout 5 {command}").rc == 0)


def page_status(path: str = "/hub/health") -> int:
    """Return the HTTP status with which the proxy's host answers, or 0 if it does not answer."""
    target = urlsplit(BASE_URL)
    link = http.client.HTTPSConnection(
        target.hostname or "",
        target.port,
        timeout=10,
        context=ssl._create_unverified_context(),  # HubClient checks the certificate
    )
    try:
        link.request("GET", path)
        return int(link.getresponse().status)
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        link.close()


def wait_for_the_hub(seconds: float = BOOT) -> None:
    wait_for("the hub answers", lambda: page_status() == 200, seconds)


def wait_for_the_qmaster(seconds: float = BOOT) -> None:
    wait_for("the qmaster answers", lambda: answers("hub", "qstat"), seconds)


def down(name: str) -> list[str]:
    """Return the units of a host that are not active."""
    shown = host(name).run("systemctl is-active " + " ".join(UNITS[name])).stdout.split()
    return [u for u, s in zip(UNITS[name], shown or ["?"] * 9, strict=False) if s != "active"]


@dataclass(frozen=True)
class GridJob:
    """A job, as qstat shows it to root on the qmaster."""

    id: int
    owner: str
    state: str
    host: str


def jobs(owner: str = "") -> list[GridJob]:
    """Return all jobs in Grid Engine, or only the jobs of one owner."""
    root = ElementTree.fromstring(run("qmaster", "qstat -u '*' -xml"))
    found = [
        GridJob(
            int(entry.findtext("JB_job_number", "")),
            entry.findtext("JB_owner", ""),
            entry.findtext("state", ""),
            (entry.findtext("queue_name") or "").partition("@")[2],
        )
        for entry in root.iter("job_list")
    ]
    return [job for job in found if owner in ("", job.owner)]


def session_files() -> str:
    """Return the names of the sessions' secret files in people's homes."""
    return run("hub", "find /home -path '*/.jupyterhub-sessions/*.json'")


def delete(job: GridJob) -> None:
    """Delete a job as its owner, bypassing the hub."""
    host("hub").run(f"runuser -u {job.owner} -- qdel {job.id}")


def remove_all_but(mine: set[int]) -> None:
    """Delete what a failed test may have left: all session files, and all jobs except ``mine``."""
    for job in jobs():
        if job.id not in mine:
            delete(job)
    run("hub", "find /home -path '*/.jupyterhub-sessions/*.json' -delete")


def hold(seconds: float) -> None:
    """Let a fault last for ``seconds``, in a test that depends on the fault's duration."""
    time.sleep(seconds)


# -- the hub --------------------------------------------------------------------------------------


def _pid(name: str, unit: str) -> str:
    return str(host(name).run(f"systemctl show -P MainPID {unit}").stdout.strip())


@contextlib.contextmanager
def stopped(name: str, unit: str, ready: Callable[[], None]) -> Iterator[None]:
    """Stop a unit; start it again afterwards."""
    try:
        run(name, f"systemctl stop {unit}")
        yield
    finally:
        run(name, f"systemctl start {unit}")
        ready()


@contextlib.contextmanager
def restarted(name: str, unit: str, ready: Callable[[], None], times: int = 1) -> Iterator[None]:
    """Restart a unit."""
    try:
        for _ in range(times):
            run(name, f"systemctl restart {unit}")
        yield
    finally:
        ready()


@contextlib.contextmanager
def killed(name: str, unit: str, ready: Callable[[], None]) -> Iterator[None]:
    """Kill a unit's main process; afterwards, wait until systemd has started another."""
    before = _pid(name, unit)
    assert before not in ("", "0"), f"{unit} does not run"
    try:
        run(name, f"kill -KILL {before}")
        yield
    finally:
        wait_for(f"{unit} is back", lambda: _pid(name, unit) not in ("", "0", before), BOOT)
        ready()


@contextlib.contextmanager
def rebooted(name: str, ready: Callable[[], None]) -> Iterator[None]:
    """Reboot a host."""
    before = main_process(name)
    try:
        host(name).run("systemctl reboot")
        yield
    finally:
        wait_for(f"{name} has booted", lambda: main_process(name) not in ("0", before), BOOT)
        wait_for(f"the units of {name} are up", lambda: not down(name), BOOT)
        ready()


def hub_stopped() -> AbstractContextManager[None]:
    return stopped("hub", "jupyterhub", wait_for_the_hub)


def hub_restarted() -> AbstractContextManager[None]:
    return restarted("hub", "jupyterhub", wait_for_the_hub)


def hub_restarted_twice() -> AbstractContextManager[None]:
    return restarted("hub", "jupyterhub", wait_for_the_hub, times=2)


def hub_killed() -> AbstractContextManager[None]:
    return killed("hub", "jupyterhub", wait_for_the_hub)


def hub_rebooted() -> AbstractContextManager[None]:
    return rebooted("hub", wait_for_the_hub)


@contextlib.contextmanager
def hub_configured(*lines: str) -> Iterator[None]:
    """Run the hub with lines added to its configuration."""
    run("hub", f"cp -a {HUB_CONFIG} {HUB_CONFIG}.whole")
    try:
        for line in lines:
            run("hub", f"printf '%s\\n' {shlex.quote(line)} >> {HUB_CONFIG}")
        with hub_restarted():
            pass
        yield
    finally:
        run("hub", f"mv {HUB_CONFIG}.whole {HUB_CONFIG}")
        with hub_restarted():
            pass


@contextlib.contextmanager
def clock_off(seconds: int) -> Iterator[None]:
    """Make the clock of the hub's unit wrong; all other clocks stay right."""
    drop_in = "/run/systemd/system/jupyterhub.service.d/clock.conf"
    if not answers("hub", "dpkg -s libfaketime"):
        run("hub", "apt-get -qq install -y libfaketime")
    library = run("hub", "ls /usr/lib/*/faketime/libfaketime.so.1")
    settings = (
        f"[Service]\\nEnvironment=LD_PRELOAD={library} FAKETIME={seconds:+d}s"
        " FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1\\n"
    )
    try:
        run("hub", f"mkdir -p $(dirname {drop_in}); printf '{settings}' > {drop_in}")
        run("hub", "systemctl daemon-reload")
        with hub_restarted():
            pass
        yield
    finally:
        run("hub", f"rm -r $(dirname {drop_in}); systemctl daemon-reload")
        with hub_restarted():
            pass


# -- the hub's database ----------------------------------------------------------------------------


@contextlib.contextmanager
def database_read_only() -> Iterator[None]:
    """Make the hub's folder read-only, so that SQLite cannot create the journal of a change."""
    try:
        run("hub", f"chown root: {STATE} && chmod 0755 {STATE}")
        yield
    finally:
        run("hub", f"chown jupyterhub: {STATE} && chmod 0700 {STATE}")


@contextlib.contextmanager
def database_on_a_small_disk() -> Iterator[Callable[[bool], None]]:
    """Put the hub's folder on a disk of 8 MB; yield a function that fills or frees the disk."""

    def fill(full: bool) -> None:
        if full:
            # dd is meant to fail: it writes until the disk is full.
            run("hub", f"dd if=/dev/zero of={STATE}/ballast bs=4k 2>/dev/null; sync; true")
        else:
            run("hub", f"rm -f {STATE}/ballast")

    run("hub", "systemctl stop jupyterhub")
    try:
        run("hub", f"cp -a {STATE} {STATE}.kept")
        enter("hub", "mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "small", STATE)
        run("hub", f"chown jupyterhub: {STATE} && cp -a {STATE}.kept/. {STATE}/")
        run("hub", "systemctl start jupyterhub")
        wait_for_the_hub()
        yield fill
    finally:
        fill(False)
        run("hub", "systemctl stop jupyterhub")
        run("hub", f"rm -rf {STATE}.kept; cp -a {STATE} {STATE}.kept")
        enter("hub", "umount", STATE)
        run("hub", f"cp -a {STATE}.kept/. {STATE}/ && rm -r {STATE}.kept")
        run("hub", "systemctl start jupyterhub")
        wait_for_the_hub()


# -- the proxy ------------------------------------------------------------------------------------


def proxy_restarted() -> AbstractContextManager[None]:
    return restarted("proxy", "jupyterhub-proxy", wait_for_the_hub)


def proxy_killed() -> AbstractContextManager[None]:
    return killed("proxy", "jupyterhub-proxy", wait_for_the_hub)


def nginx_restarted() -> AbstractContextManager[None]:
    return restarted("proxy", "nginx", wait_for_the_hub)


# -- Grid Engine ----------------------------------------------------------------------------------


def qmaster_stopped() -> AbstractContextManager[None]:
    return stopped("qmaster", "gridengine-master", wait_for_the_qmaster)


def qmaster_killed() -> AbstractContextManager[None]:
    return killed("qmaster", "gridengine-master", wait_for_the_qmaster)


@contextlib.contextmanager
def qmaster_frozen() -> Iterator[None]:
    """Suspend the qmaster's process, which then accepts connections but does not answer."""
    pid = _pid("qmaster", "gridengine-master")
    try:
        run("qmaster", f"kill -STOP {pid}")
        yield
    finally:
        run("qmaster", f"kill -CONT {pid}")
        wait_for_the_qmaster()


def execd_restarted(worker: str = "exec2") -> AbstractContextManager[None]:
    return restarted(worker, "gridengine-exec", lambda: None)


def execd_killed(worker: str = "exec2") -> AbstractContextManager[None]:
    return killed(worker, "gridengine-exec", lambda: None)


@contextlib.contextmanager
def suspended(job: int) -> Iterator[None]:
    """Suspend a job, as a queue with a lower priority does."""
    try:
        run("qmaster", f"qmod -sj {job}")
        yield
    finally:
        run("qmaster", f"qmod -usj {job}")


@contextlib.contextmanager
def queue_disabled(queue: str = "all.q") -> Iterator[None]:
    """Disable a queue, so that no job starts there."""
    try:
        run("qmaster", f"qmod -d {queue}")
        yield
    finally:
        run("qmaster", f"qmod -e {queue}")


@contextlib.contextmanager
def replaced(name: str, command: str, script: str) -> Iterator[None]:
    """Replace a command of Grid Engine with a script, which can call the original as $REAL.

    The script is renamed to the command's path. If it were mounted there, units in a sandbox would
    not see the script at once.
    """
    # Keep the original under the same name in another folder, because Debian's wrapper reads the
    # command to run from its own name.
    aside, path = "/usr/lib/gridhub-faults", f"/usr/bin/{command}"
    text = f"#!/bin/bash\nREAL={aside}/{command}\n{script}\n"
    run(name, f"mkdir -p {aside}; cp -P {path} {path}.new; test -L {path}")
    target = run(name, f"readlink -f {path}")
    run(name, f"rm {path}.new; ln -sfn {target} {aside}/{command}")
    link = run(name, f"readlink {path}")
    try:
        run(
            name,
            f"printf %s {shlex.quote(text)} > {path}.new; chmod 0755 {path}.new;"
            f" mv -f {path}.new {path}",
        )
        yield
    finally:
        run(name, f"ln -s {link} {path}.new; mv -fT {path}.new {path}; rm -rf {aside}")


#: The folder in which the flaky qstat counts its calls. All users of the hub's host may write to
#: it, and units in a sandbox see the same folder.
_TURNS = "/dev/shm/gridhub-faults"

#: A qstat that behaves differently from call to call: it fails, hangs, answers, or prints garbage,
#: half an answer or nothing. The order is fixed, so that no test can fail by bad luck, and it
#: repeats after eleven calls. Because eleven is a prime number, a program that makes every second
#: or every third call still meets each behaviour.
FLAKY_QSTAT = f"""
exec 9<>{_TURNS}/turn
flock 9
read -r turn <&9
echo $((turn + 1)) > {_TURNS}/turn
exec 9>&-
case $((turn % 11)) in
  0|9) echo 'error: commlib error: got select error (Connection refused)' >&2; exit 1 ;;
  1) echo 'critical error: unrecoverable error - contact systems manager'; exit 0 ;;
  3) "$REAL" "$@" | head -c $((RANDOM % 400 + 1)); exit 0 ;;
  4) exit 0 ;;
  6) exec sleep 1000 ;;
  7) head -c 2000 /dev/urandom; exit 0 ;;
esac
exec "$REAL" "$@"
"""


@contextlib.contextmanager
def qstat_flaky() -> Iterator[None]:
    run("hub", f"mkdir -p {_TURNS}; echo 0 > {_TURNS}/turn; chmod 0777 {_TURNS} {_TURNS}/turn")
    try:
        with replaced("hub", "qstat", FLAKY_QSTAT):
            yield
    finally:
        run("hub", f"rm -r {_TURNS}")


#: A qstat whose lists leave out all jobs, as with a file of options that selects others.
_LISTS_NOTHING = """
case " $* " in *" -f "*) exec "$REAL" -f -ne -xml -u nobody ;; esac
exec "$REAL" "$@"
"""


def qstat_lists_nothing() -> AbstractContextManager[None]:
    return replaced("hub", "qstat", _LISTS_NOTHING)


# -- workers --------------------------------------------------------------------------------------


@contextlib.contextmanager
def cut_off(worker: str = "exec2") -> Iterator[None]:
    """Cut a worker off from the network by dropping all packets in both directions."""
    rules = (("INPUT", "-i"), ("OUTPUT", "-o"))

    def filter_packets(action: str, check: bool = True) -> None:
        for chain, direction in rules:
            rule = (chain, direction, "eth0", "-j", "DROP")
            outside(worker, "iptables", action, *rule, check=check)

    try:
        filter_packets("--insert")
        yield
    finally:
        filter_packets("--delete", check=False)


@contextlib.contextmanager
def lost(worker: str) -> Iterator[None]:
    """Switch a worker off without warning; switch it on again afterwards."""
    name = f"{PREFIX}-{worker}"
    try:
        machine("podman", "stop", "--time", "0", name)
        yield
    finally:
        machine("podman", "start", name)
        wait_for(f"the units of {worker} are up", lambda: not down(worker), BOOT)


@contextlib.contextmanager
def notebooks_missing() -> Iterator[None]:
    """Remove the notebook environment from both workers, so that jobs end as soon as they start."""
    link = "/opt/jupyterhub-session/current"
    workers = ("exec1", "exec2")
    try:
        for worker in workers:
            run(worker, f"mv -T {link} {link}.away")
        yield
    finally:
        for worker in workers:
            run(worker, f"test ! -L {link}.away || mv -T {link}.away {link}")


# -- homes ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(names: list[str], path: str, *options: str) -> Iterator[None]:
    """Mount another file system over a folder on these hosts."""
    done: list[str] = []
    try:
        for name in names:
            enter(name, "mount", *options, path)
            done.append(name)
        yield
    finally:
        for name in done:
            enter(name, "umount", "--lazy", path)


@contextlib.contextmanager
def home_full(user: str) -> Iterator[None]:
    """Replace a home with a full disk, on the hub's host only."""
    home = f"/home/{user}"
    with mounted(["hub"], home, "-t", "tmpfs", "-o", "size=64k,mode=0700", "small"):
        run("hub", f"chown {user}: {home}; dd if=/dev/zero of={home}/x bs=4k 2>/dev/null; true")
        yield


def home_read_only(user: str) -> AbstractContextManager[None]:
    home = f"/home/{user}"
    return mounted(["hub"], home, "-t", "tmpfs", "-o", "ro,mode=0755", "read-only")


@contextlib.contextmanager
def home_missing(user: str) -> Iterator[None]:
    """Move a home away. All hosts share the homes, so the home is missing on each host."""
    try:
        run("hub", f"mv -T /home/{user} /home/{user}.away")
        yield
    finally:
        run(
            "hub",
            f"test ! -d /home/{user}.away ||"
            f" {{ rm -rf /home/{user} && mv -T /home/{user}.away /home/{user}; }}",
        )


def home_out_of_reach(user: str, *workers: str) -> AbstractContextManager[None]:
    """Make a person's home inaccessible on some workers, so that jobs cannot enter it there."""
    options = ("-t", "tmpfs", "-o", "mode=0000", "closed")
    return mounted(list(workers), f"/home/{user}", *options)


@contextlib.contextmanager
def home_hanging(user: str) -> Iterator[None]:
    """On the hub's host, make every write to a home hang, as if the file server were dead."""
    home, image = f"/home/{user}", f"/var/tmp/{PREFIX}-home.img"
    machine("truncate", "--size", "16M", image)
    machine("mkfs.ext4", "-q", "-F", image)
    loop = machine("losetup", "--find", "--show", image)
    major, minor = machine("stat", "--format", "%Hr %Lr", loop).split()
    device = "/dev/gridhub-home"
    try:
        enter("hub", "mknod", device, "b", major, minor)
        with mounted(["hub"], home, "-t", "ext4", device):
            run("hub", f"chown {user}: {home}")
            enter("hub", "fsfreeze", "--freeze", home)
            try:
                yield
            finally:
                enter("hub", "fsfreeze", "--unfreeze", home)
    finally:
        enter("hub", "rm", "-f", device)
        # losetup may fail, because the broker's sandbox may keep the mount for a moment.
        machine("losetup", "--detach", loop, check=False)
        machine("rm", "-f", image)


# -- the broker and the menu ----------------------------------------------------------------------


def submitting_broker() -> str:
    """Return the PID of a broker that runs qsub, or an empty string."""
    return str(host("hub").run("ps -o ppid= -p $(pgrep --oldest --exact qsub)").stdout.strip())


def kill_a_broker() -> None:
    """Kill the broker while it handles a start."""
    pid = str(wait_for("a broker runs qsub", submitting_broker, 15))
    run("hub", f"kill -KILL {pid}")


@contextlib.contextmanager
def submitted_with(*arguments: str) -> Iterator[None]:
    """Make the broker pass ``arguments`` to qsub for every session."""
    path = "/etc/jupyterhub/broker.json"
    whole = run("hub", f"cat {path}")
    changed = json.dumps(json.loads(whole) | {"qsub_arguments": arguments})
    try:
        run("hub", f"printf '%s\\n' {shlex.quote(changed)} > {path}")
        yield
    finally:
        run("hub", f"printf '%s\\n' {shlex.quote(whole)} > {path}")


@contextlib.contextmanager
def account_closed(user: str) -> Iterator[None]:
    """Set an account's expiry date far in the past, on the hub's host."""
    try:
        run("hub", f"chage --expiredate 1 {user}")
        yield
    finally:
        run("hub", f"chage --expiredate -1 {user}")


@contextlib.contextmanager
def menu(change: Callable[[list[dict[str, Any]]], None]) -> Iterator[None]:
    """Give new sessions a menu with changed items and without presets or limits."""
    path = "/etc/jupyterhub/menu.json"
    whole = run("hub", f"cat {path}")
    items = json.loads(whole)["items"]
    change(items)

    def write(text: str) -> None:
        run("hub", f"printf '%s\\n' {shlex.quote(text)} > {path}.new && chmod 0644 {path}.new")
        run("hub", f"mv {path}.new {path}")

    try:
        write(json.dumps({"items": items}))
        yield
    finally:
        write(whole)


@contextlib.contextmanager
def lasting(fault: Fault, seconds: float, meanwhile: Fault | None = None) -> Iterator[None]:
    """Keep a fault in force for ``seconds``; cause the fault ``meanwhile`` during this time."""
    with fault():
        started = time.monotonic()
        if meanwhile:
            hold(seconds / 3)
            with meanwhile():
                pass
        hold(max(0.0, seconds - (time.monotonic() - started)))
        yield


#: Faults that end no running session; `make soak` picks from them at random.
HARMLESS: dict[str, Fault] = {
    "hub stopped and started": lambda: lasting(hub_stopped, 3),
    "hub restarted": hub_restarted,
    "hub restarted twice within ten seconds": hub_restarted_twice,
    "hub killed": hub_killed,
    "hub's host rebooted": hub_rebooted,
    "proxy restarted": proxy_restarted,
    "proxy killed": proxy_killed,
    "nginx restarted": nginx_restarted,
    "qmaster stopped and started": lambda: lasting(qmaster_stopped, 3),
    "qmaster stopped while the hub restarts": lambda: lasting(qmaster_stopped, 3, hub_restarted),
    "qmaster killed": qmaster_killed,
    "qmaster killed while the hub restarts": lambda: lasting(qmaster_killed, 0, hub_restarted),
    "qmaster frozen": lambda: lasting(qmaster_frozen, 35),
    "qmaster frozen while the hub restarts": lambda: lasting(qmaster_frozen, 35, hub_restarted),
    "execution daemon restarted": execd_restarted,
    "execution daemon killed": execd_killed,
    "worker cut off for a minute": lambda: lasting(cut_off, 60),
    "worker cut off while the hub restarts": lambda: lasting(cut_off, 60, hub_restarted),
    "qstat fails at random for a minute": lambda: lasting(qstat_flaky, 60),
    "qstat lists no job while the hub restarts": lambda: lasting(
        qstat_lists_nothing, 20, hub_restarted
    ),
    "database not writable": lambda: lasting(database_read_only, 5),
}
