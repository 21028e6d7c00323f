"""Programs that attack from inside the cluster, and programs that measure the attacked services."""

from __future__ import annotations

import json
from typing import NamedTuple

from cluster import host
from proxy_client import run_python

#: A program that opens many connections. It tries each text in ``sends`` with each way to close the
#: connection in ``ends``. ``times`` says how often it repeats all combinations. It prints how often
#: each outcome occurred. It does not check the server's certificate.
ATTACK = """
import asyncio, collections, itertools, json, ssl, sys
spec = dict(tls=True, sends=[""], ends=["close"], times=1, together=100, hold=0, unread=False)
spec.update(json.loads(sys.argv[1]))
context = ssl._create_unverified_context() if spec["tls"] else None
came = collections.Counter()

async def one(line, send, end):
    async with line:
        try:
            async with asyncio.timeout(30):
                link = await asyncio.open_connection(spec["host"], spec["port"], ssl=context)
        except (OSError, TimeoutError):
            came["kept out"] += 1
            await asyncio.sleep(1)
            return
        reader, writer = link
        try:
            if spec["unread"]:
                writer.transport.pause_reading()
            # An argument has at most 128 kB.
            writer.write(send.replace("100 kB of x", "x" * 100_000).encode())
            if not spec["unread"]:
                await writer.drain()
            came["sent"] += 1
            if spec["hold"]:
                # A connection that is cut off reads the end.
                async with asyncio.timeout(spec["hold"]):
                    if spec["unread"]:
                        await asyncio.Event().wait()
                    while await reader.read(65536):
                        pass
                    came["cut off"] += 1
                    await asyncio.sleep(1)
        except TimeoutError:
            came["silence"] += 1
        except OSError:
            came["cut off"] += 1
        finally:
            if end == "reset":
                writer.transport.abort()
            elif end == "half" and writer.can_write_eof():
                writer.write_eof()
                await asyncio.sleep(1)
            writer.close()

async def main():
    line = asyncio.Semaphore(spec["together"])
    each = itertools.product(spec["sends"], spec["ends"])
    await asyncio.gather(*(one(line, *how) for how in list(each) * spec["times"]))

asyncio.run(main())
print(json.dumps(came))
"""


def attack(name: str, **spec: object) -> dict[str, int]:
    """Attack from the host with this name; return how often each outcome occurred."""
    return dict(json.loads(run_python(host(name), ATTACK, json.dumps(spec))))


def in_background(name: str, unit: str, **spec: object) -> None:
    """Start an attack as a unit on the host with this name; stopping the unit ends the attack."""
    host(name).check_output(
        "systemd-run --quiet --collect --unit=%s --property=LimitNOFILE=20000 python3 -c %s %s",
        unit,
        ATTACK,
        json.dumps(spec),
    )


class Cost(NamedTuple):
    """The cost of a service: how many files it has open, and how many MB of memory it uses."""

    files: int
    memory: int


#: A script that looks at some processes and their children. It prints how many files they have
#: open, and how many kB of memory they use. Only the account that runs a process can see the
#: process's open files, so the script switches to this account to count them.
COST = """
for pid in $(echo $* $(for each in $*; do pgrep -P $each; done)); do
  # A child, such as a qstat, may be gone at any moment.
  read -r user rss <<END
$(ps -o user:32=,rss= -p $pid)
END
  [ -n "$rss" ] || continue
  files=$((files + $(runuser -u $user -- ls /proc/$pid/fd 2>/dev/null | wc -l)))
  memory=$((memory + rss))
done
echo $files $memory
"""
OF_UNIT = "set -- $(systemctl show --property=MainPID --value %s)\n" + COST
OF_SESSION = "set -- $(pgrep -o -u %s -f sge_session.py)\n" + COST.replace("pgrep -P", "true")


def _cost(name: str, script: str) -> Cost:
    files, memory = host(name).check_output("sh -c %s", script).split()
    return Cost(int(files), int(memory) // 1024)


#: The host and the unit of each service.
SERVICES = {
    "nginx": ("proxy", "nginx.service"),
    "proxy": ("proxy", "jupyterhub-proxy.service"),
    "hub": ("hub", "jupyterhub.service"),
}


def cost(service: str) -> Cost:
    """Return the present cost of ``nginx``, ``proxy`` or ``hub``."""
    name, unit = SERVICES[service]
    return _cost(name, OF_UNIT % unit)


def costs() -> dict[str, Cost]:
    """Return the present cost of each service."""
    return {service: cost(service) for service in SERVICES}


def session_cost(worker: str, person: str) -> Cost:
    """Return the cost of a person's only session on a worker, without the session's kernels."""
    return _cost(worker, OF_SESSION % person)


def links_from(name: str) -> int:
    """Return the number of connections from a host to the proxy's port 443."""
    proxy = host("proxy")
    address = proxy.check_output(f"getent ahostsv4 {name}").split()[0]
    return len(
        proxy.check_output(f"ss -Htn state established sport = 443 dst {address}").splitlines()
    )
