"""Kernels that people install: they work, or the person reads why not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import requests

from browsing import changed
from hub_client import wait_for
from newcomer import Newcomer

Make = Callable[..., Newcomer]

#: A kernel that knows only TCP ports, like xeus and many kernels in Java: it takes the ports from
#: the connection file, whatever the file's transport is. It answers only to requests for its
#: information and to cells.
TCP_KERNEL = """
import hashlib, hmac, json, sys, time, uuid
import zmq
with open(sys.argv[1]) as file:
    info = json.load(file)
context = zmq.Context()
def bind(kind, port):
    socket = context.socket(kind)
    socket.bind(f"tcp://127.0.0.1:{info[port]}")
    return socket
shell, control = bind(zmq.ROUTER, "shell_port"), bind(zmq.ROUTER, "control_port")
iopub, stdin = bind(zmq.PUB, "iopub_port"), bind(zmq.ROUTER, "stdin_port")
heart = bind(zmq.REP, "hb_port")
def send(socket, identities, kind, parent, content):
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "s", "username": "k",
              "version": "5.3", "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    parts = [json.dumps(part).encode() for part in (header, parent, {}, content)]
    sign = hmac.new(info["key"].encode(), b"".join(parts), hashlib.sha256).hexdigest().encode()
    socket.send_multipart([*identities, b"<IDS|MSG>", sign, *parts])
poller = zmq.Poller()
for socket in (shell, control, heart):
    poller.register(socket, zmq.POLLIN)
while True:
    for socket, _ in poller.poll():
        message = socket.recv_multipart()
        if socket is heart:
            heart.send_multipart(message)
            continue
        at = message.index(b"<IDS|MSG>")
        parent = json.loads(message[at + 2])
        say = lambda state: send(iopub, [b"status"], "status", parent, {"execution_state": state})
        say("busy")
        kind = parent["msg_type"]
        if kind == "kernel_info_request":
            send(socket, message[:at], "kernel_info_reply", parent, {
                "status": "ok", "protocol_version": "5.3", "implementation": "tcp",
                "implementation_version": "1", "banner": "", "language_info": {
                    "name": "tcp", "version": "1", "mimetype": "text/plain",
                    "file_extension": ".txt"}, "help_links": []})
        elif kind == "execute_request":
            send(iopub, [b"stream"], "stream", parent, {"name": "stdout", "text": "over TCP"})
            send(socket, message[:at], "execute_reply", parent,
                 {"status": "ok", "execution_count": 1, "user_expressions": {}})
        elif kind == "shutdown_request":
            send(socket, message[:at], "shutdown_reply", parent, {"status": "ok", "restart": False})
            sys.exit()
        say("idle")
"""


def install(person: Newcomer, name: str, argv: list[str]) -> None:
    person.write(
        f".local/share/jupyter/kernels/{name}/kernel.json",
        json.dumps({"argv": argv, "display_name": f"The {name} kernel", "language": "text"}),
    )


@pytest.mark.parametrize("allowed", [True, False])
def test_a_kernel_that_knows_only_tcp_works_where_the_site_allows_it_or_says_why_not(
    newcomer: Make, hub_host: Any, allowed: bool
) -> None:
    person = newcomer()
    person.write("tcp_kernel.py", TCP_KERNEL)
    python = "/opt/jupyterhub-session/current/env/bin/python3.11"
    install(person, "tcp", [python, f"{person.home}/tcp_kernel.py", "{connection_file}"])
    names = ["tc?"] if allowed else []
    with changed(hub_host, "broker.json", lambda rules: rules.update(tcp_kernels=names)):
        person.start()
    kernel = person.start_kernel("tcp")
    if allowed:
        assert person.run(kernel, "anything") == "over TCP"
        return
    notice = person.wait_for_notice("The tcp kernel", 90)
    assert "jupyterhub_tcp_kernels" in notice


def test_a_kernel_that_does_not_answer_is_reported(newcomer: Make) -> None:
    person = newcomer()
    install(person, "mute", ["/bin/sleep", "600"])
    person.start()
    person.start_kernel("mute")
    notices = person.wait_for_notice("has not answered yet", 90)
    # Nobody has connected to the site's kernel either, but it answers.
    assert "The mute kernel" in notices and "Python 3" not in notices


@pytest.mark.parametrize(
    ("name", "script", "words"),
    [
        ("broken", "echo No module named ipykernel >&2; exit 1", "No module named ipykernel"),
        ("silent", "sleep 1; exit 7", "status 7"),
        ("hungry", "echo allocating; kill -9 $$", "need more memory than it has"),
    ],
)
def test_a_kernel_that_dies_is_reported_once_with_its_last_lines(
    newcomer: Make, name: str, script: str, words: str
) -> None:
    person = newcomer()
    install(person, name, ["/bin/sh", "-c", script])
    person.start()
    with contextlib.suppress(requests.HTTPError):
        person.start_kernel(name)
    person.wait_for_notice(words)
    # The server restarts the kernel five times in the next 20 s; none of them is reported.
    wait_for("the server gives the kernel up", lambda: "restart failed" in person.log())
    notices = person.notices()
    assert sum(f"The {name} kernel" in notice for notice in notices) <= 1


def test_a_kernel_whose_program_is_gone_is_an_error_with_the_program(newcomer: Make) -> None:
    person = newcomer()
    install(person, "gone", ["/home/nobody/env/bin/python", "-m", "ipykernel"])
    person.start()
    with pytest.raises(requests.HTTPError) as refused:
        person.start_kernel("gone")
    assert "/home/nobody/env/bin/python" in refused.value.response.json()["message"]


def test_a_kernel_of_ones_own_environment_gets_the_whole_environment(newcomer: Make) -> None:
    """The kernel of a virtual environment, made as docs/researchers says."""
    person = newcomer()
    person.start()
    made = person.terminal(
        "python3 -m venv ~/mine && ~/mine/bin/pip install --quiet ipykernel && "
        "~/mine/bin/python -m ipykernel install --user --name mine && echo made",
        seconds=300,
    )
    assert made.splitlines()[-1] == "made"
    kernel = person.start_kernel("mine")
    assert person.run(kernel, "import sys; print(sys.prefix)").strip() == f"{person.home}/mine"


def test_a_kernel_loads_its_own_modules_from_no_notebooks_folder(newcomer: Make) -> None:
    person = newcomer()
    planted = "open('/tmp/planted', 'a').close()\n"
    for name in ("ipykernel_launcher", "ipykernel", "zmq", "random", "mine"):
        person.write(f"course/{name}.py", "x = 5\n" if name == "mine" else planted)
    person.start()
    kernel = person.start_kernel(folder="course")
    assert person.run(kernel, "import mine, os; print(mine.x, os.getcwd())").split() == [
        "5",
        f"{person.home}/course",
    ]
    assert not person.worker().file("/tmp/planted").exists


def test_kernels_that_are_not_offered_are_named(newcomer: Make) -> None:
    person = newcomer()
    own = ".local/share/jupyter/kernels"
    person.write(f"{own}/python3/kernel.json", '{"argv": ["python"]}')
    person.write(f"{own}/broken/kernel.json", '{"argv": ["python"],}')
    person.start()
    notices = person.wait_for_notice("Your kernel python3 is not offered")
    for path in ("python3", "broken/kernel.json"):
        assert f"{person.home}/{own}/{path}" in notices


def test_a_kernel_that_a_package_brings_is_offered(newcomer: Make) -> None:
    person = newcomer().start()
    install = "python -m ipykernel install --sys-prefix --name brought"
    assert "Installed" in person.terminal(install)
    assert "brought" in person.session_rest("GET", "api/kernelspecs").json()["kernelspecs"]
