"""Faults of http-proxy-3, and whether abandoned-requests.cjs is still needed to correct them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy_client import UNIT, run_python

CORRECTION = "--require=/etc/jupyterhub-proxy/abandoned-requests.cjs"

#: A program that starts a configurable-http-proxy between a client and a server. It prints two
#: numbers: how many files the proxy still has open after 20 clients have sent upgrade requests and
#: hung up, and how many megabytes the proxy buffers for a client that does not read a large answer.
TRY = """
import json, os, re, signal, socket, subprocess, sys, tempfile, threading, time

folder = tempfile.mkdtemp()
path = folder + "/chp.sock"
server = socket.create_server(("127.0.0.1", 0), backlog=100)
kept = []

def serve():
    while True:
        link, _ = server.accept()
        kept.append(link)
        if b"/large" in link.recv(65536):
            threading.Thread(target=write, args=[link], daemon=True).start()

def write(link):
    link.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % 2**28)
    try:
        for _ in range(2**12):
            link.sendall(bytes(2**16))
    except OSError:
        pass

threading.Thread(target=serve, daemon=True).start()
program = json.loads(sys.argv[1]) + [
    "--socket=" + path, "--api-socket=" + folder + "/api.sock",
    "--default-target=http://127.0.0.1:%d" % server.getsockname()[1],
]
chp = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def files():
    return len(os.listdir("/proc/%d/fd" % chp.pid))

def memory():
    status = open("/proc/%d/status" % chp.pid).read()
    return int(re.search(r"VmRSS:\\s+(\\d+)", status)[1]) // 1024

def ask(what):
    link = socket.socket(socket.AF_UNIX)
    link.connect(path)
    head = ["GET /%s HTTP/1.1" % what, "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
    link.sendall("\\r\\n".join([*head, "", ""]).encode())
    return link

def wait(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)

try:
    wait(lambda: os.path.exists(path), 20)
    before, small = files(), memory()
    links = [ask("silent") for _ in range(20)]
    wait(lambda: len(kept) == 20, 20)
    for link in links:
        link.close()
    wait(lambda: files() <= before, 10)
    held = files() - before
    links = [ask("large")]
    wait(lambda: memory() > small + 200, 10)
    print(json.dumps([held, memory() - small]))
finally:
    chp.kill()
"""


def held(proxy_host: Any, *options: str) -> tuple[int, int]:
    started = proxy_host.file(UNIT).content_string.partition("ExecStart=")[2].split()
    node = started[0]
    program = next(each for each in started if each.endswith("/bin/configurable-http-proxy"))
    files, memory = json.loads(run_python(proxy_host, TRY, json.dumps([node, *options, program])))
    return files, memory


@pytest.mark.attack(
    "upgrade requests in the proxy's library: abandoned, or with an unread answer",
    outcome="Our addition frees the first and limits the second, until the library does so itself.",
)
def test_the_librarys_faults_are_corrected(proxy_host: Any) -> None:
    files, memory = held(proxy_host, CORRECTION)
    assert files <= 0
    assert memory < 100


@pytest.mark.attack(
    "the same without our addition",
    outcome="Held for ever; this test fails once the library does better.",
)
def test_our_correction_is_still_needed(proxy_host: Any) -> None:
    files, memory = held(proxy_host)
    assert files >= 20 and memory > 150, (
        "http-proxy-3 does so itself now: remove roles/proxy/files/abandoned-requests.cjs"
    )
