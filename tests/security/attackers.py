"""Programs that attack from inside the cluster, and programs that measure the attacked services."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from cluster import host
from hub_client import wait_for
from proxy_client import run_python

#: Seconds for which an abandoned request may hold resources (docs/security.md).
GIVEN_BACK_WITHIN = 90
#: How many more files may be open after an attack than before it. The limit is not 0, because other
#: work also opens files, for example for connections that wait for their next request.
AS_BEFORE = 30

#: The path of a session in which the person runs a hostile program instead of the server.
HOSTILE = "/user/hostile"
HOSTILE_PORT = 18998
HOSTILE_SERVER = f"""
import http.server, time

class Hostile(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what = self.path.rpartition("/")[2]
        if what == "silent":
            time.sleep(600)
        elif what == "waits":
            self.rfile.read(1)  # until its client has gone
        elif what == "upgrades":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            time.sleep(600)  # and never closes
        elif what == "orders":
            self.send_response(200)
            self.send_header("X-Accel-Redirect", "/.jupyterhub-proxy")
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b"my words")
        else:
            self.send_response(200)
            if what == "buffered":
                self.send_header("X-Accel-Buffering", "yes")
            self.send_header("Content-Length", str(2**30))
            self.end_headers()
            try:
                for _ in range(2**14):
                    self.wfile.write(bytes(2**16))
            except OSError:
                pass

http.server.ThreadingHTTPServer.request_queue_size = 1000
http.server.ThreadingHTTPServer(("127.0.0.1", {HOSTILE_PORT}), Hostile).serve_forever()
"""

#: A program that opens many connections. It tries each text in ``sends`` with each way to close the
#: connection in ``ends``. ``times`` says how often it repeats all combinations. It prints how often
#: each outcome occurred. It does not check the server's certificate.
ATTACK = """
import asyncio, base64, collections, itertools, json, ssl, sys, zlib
spec = dict(tls=True, protocol="http/1.1", ends=["close"], times=1, together=100, hold=0)
spec |= dict(unread=False) | json.loads(sys.argv[1])
context = ssl._create_unverified_context() if spec["tls"] else None
if context:
    context.set_alpn_protocols([spec["protocol"]])
sends = [zlib.decompress(base64.b64decode(send)) for send in spec["sends"]]
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
            writer.write(send)
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
    each = itertools.product(sends, spec["ends"])
    await asyncio.gather(*(one(line, *how) for how in list(each) * spec["times"]))

asyncio.run(main())
print(json.dumps(came))
"""


def packed(sends: Iterable[str | bytes] = ("",), **spec: object) -> str:
    """Return the argument of :data:`ATTACK`, compressed: it may have at most 128 kB."""
    plain = (send.encode() if isinstance(send, str) else send for send in sends)
    texts = [base64.b64encode(zlib.compress(send, 9)).decode() for send in plain]
    return json.dumps({**spec, "sends": texts})


def attack(name: str, **spec: Any) -> dict[str, int]:
    """Attack from the host with this name; return how often each outcome occurred."""
    return dict(json.loads(run_python(host(name), ATTACK, packed(**spec))))


def in_background(name: str, unit: str, **spec: Any) -> None:
    """Start an attack as a unit on the host with this name; stopping the unit ends the attack."""
    host(name).check_output(
        "systemd-run --quiet --collect --unit=%s --property=LimitNOFILE=20000 python3 -c %s %s",
        unit,
        ATTACK,
        packed(**spec),
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


def wait_until_given_back(before: dict[str, Any]) -> None:
    """Wait until the services have hardly more files open than before the attack."""

    def is_as_before() -> bool:
        now = costs()
        return all(now[name].files <= before[name].files + AS_BEFORE for name in before)

    try:
        wait_for("descriptors are as before", is_as_before, GIVEN_BACK_WITHIN)
    except AssertionError as error:
        raise AssertionError(f"{error}: {before} before, {costs()} now") from error
