"""Sessions are isolated from each other: only the hub and the proxy can reach them."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster import AS_HUB, host
from hub_client import wait_for
from person import IN_MEMORY, Session, session_of
from proxy_client import Answer

#: A function that requests a page and returns the outcome. It uses plain HTTP, or TLS with or
#: without the session's own certificate. It does not check the server's certificate.
KNOCK = (
    IN_MEMORY
    + """
import http.client, os, ssl
def knock(address, port, path, how, headers={}, body=None):
    context = ssl._create_unverified_context()
    if how == "certificate":
        context.load_cert_chain(in_memory("certificate"), in_memory("key"))
    if how == "plain":
        link = http.client.HTTPConnection(address, port, timeout=10)
    else:
        link = http.client.HTTPSConnection(address, port, timeout=10, context=context)
    try:
        link.request("POST" if body else "GET", path, body, headers)
        return "answered with %s" % link.getresponse().status
    except (ssl.SSLError, ConnectionError, http.client.BadStatusLine):
        return "refused"
"""
)


#: The folder of alice's own Python packages. Python also runs certain files in it at every start.
#: `PYTHON` stands for the session's Python version, such as python3.13.
PACKAGES = ".local/lib/PYTHON/site-packages"
#: Code that leaves a trace only when the session's server runs it. The server must not run it, but
#: alice's kernels may.
STARTS_UP = (
    "import os, sys\n"
    "if any('sge_session' in each for each in sys.orig_argv):\n"
    "    open('/home/alice/traps/' + os.path.basename(__file__), 'w')\n"
)
#: The name of an extension that alice adds to JupyterLab's pages.
EXTENSION = "trap-of-alice"

SESSION_PYTHON = "/opt/jupyterhub-session/current/env/bin/python"

#: Files for alice's home that must not take effect in the session's server. If they did, they would
#: leave traces in her folder ``traps``, and the extension would appear in JupyterLab's page. The
#: kernel is an exception: the server may offer it, but without the debugger that the kernel's file
#: declares.
TRAPS = {
    ".bash_profile": "touch ~/traps/bash_profile\n",
    ".bash_env": "touch ~/traps/bash_env\n",
    ".sge_request": f"-v BASH_ENV=/home/alice/.bash_env,PYTHONPATH=/home/alice/{PACKAGES}\n",
    f"{PACKAGES}/sitecustomize.py": STARTS_UP,
    f"{PACKAGES}/usercustomize.py": STARTS_UP,
    ".jupyter/jupyter_server_config.py": "open('/home/alice/traps/server_config', 'w')\n",
    ".jupyter/jupyter_config.py": "open('/home/alice/traps/config', 'w')\n",
    # This file declares the next file as an extension of the server.
    ".jupyter/jupyter_server_config.d/trap.json": json.dumps(
        {"ServerApp": {"jpserver_extensions": {"trap_of_alice": True}}}
    ),
    f"{PACKAGES}/trap_of_alice.py": STARTS_UP,
    f".local/share/jupyter/labextensions/{EXTENSION}/package.json": json.dumps(
        {"name": EXTENSION, "version": "1.0.0", "jupyterlab": {"_build": {"load": "trap.js"}}}
    ),
    ".local/share/jupyter/kernels/own/kernel.json": json.dumps(
        {
            "argv": ["python3", "-m", "ipykernel_launcher"],
            "display_name": "Own",
            "language": "x",
            "metadata": {"debugger": True},
        }
    ),
}


@pytest.fixture(scope="module")
def traps(hub_host: Any, exec1_host: Any) -> Iterator[None]:
    """Put the traps into alice's home before her session starts."""
    alice = "runuser -u alice -- sh -c %s"
    version = "import sys; print('python%d.%d' % sys.version_info[:2])"
    python = exec1_host.check_output(f"{SESSION_PYTHON} -c {shlex.quote(version)}")
    files = {path.replace("PYTHON", python): text for path, text in TRAPS.items()}
    for path, text in files.items():
        words = shlex.quote(text.replace("/PYTHON/", f"/{python}/"))
        hub_host.check_output(
            alice, f"cd && mkdir -p traps $(dirname {path}) && printf %s {words} > {path}"
        )
    yield
    hub_host.check_output(alice, f"cd && rm -rf traps {' '.join(files)}")


# The tests in this file can share one session of alice: only the last test that uses the session
# ends it.
@pytest.fixture(scope="module")
def alice(passwords: dict[str, str], traps: None) -> Iterator[Session]:
    yield from session_of("alice", passwords["alice"])


#: The version of ipykernel in a kernel that alice installs. The site's kernel has another version.
OTHER_IPYKERNEL = "6.31.0"


@pytest.fixture(scope="module")
def other_kernel(exec1_host: Any, alice: Session) -> Iterator[str]:
    """Start a kernel of alice's own with another version of ipykernel; yield the kernel's id."""
    make = (
        f"cd && {SESSION_PYTHON} -m venv --without-pip other && cd other/lib/python* &&"
        f" PIP_CERT=/etc/ssl/certs/ca-certificates.crt {SESSION_PYTHON} -m pip install --quiet"
        f" --no-input --no-deps --target site-packages ipykernel=={OTHER_IPYKERNEL} &&"
        # The site's environment provides all other packages.
        f" {SESSION_PYTHON} -c {shlex.quote('import zmq; print(zmq.__path__[0][:-4])')}"
        " > site-packages/site.pth &&"
        " ~/other/bin/python -m ipykernel install --user --name other"
    )
    exec1_host.check_output("runuser -u alice -- sh -c %s", make)
    kernel = alice.client.start_kernel("other")
    found = alice.client.run(kernel, "import ipykernel; print(ipykernel.__version__)").strip()
    assert found == OTHER_IPYKERNEL
    yield kernel
    exec1_host.check_output(
        "runuser -u alice -- sh -c %s", "cd && rm -r other .local/share/jupyter/kernels/other"
    )


@pytest.fixture(scope="module")
def bob(passwords: dict[str, str]) -> Iterator[Session]:
    yield from session_of("bob", passwords["bob"])


@pytest.mark.attack(
    "startup files for the shell, Python, the server or its pages, in the person's home",
    outcome="A session does not run them; people's own kernels are offered.",
)
def test_startup_files_in_the_home_are_not_run(alice: Session, hub_host: Any) -> None:
    assert hub_host.check_output("ls -A /home/alice/traps") == ""
    log = hub_host.check_output("cat $(ls -t /home/alice/.jupyterhub-sessions/*.log | head -1)")
    assert "jupyterlab" in log and "trap_of_alice" not in log  # control: the log is not empty
    page = alice.client.open_lab().text
    assert "federated_extensions" in page and EXTENSION not in page
    assert {"python3", "own"} <= set(kernels_offered(alice))


def kernels_offered(session: Session) -> dict[str, Any]:
    """Return the spec of each kernel that the server offers to JupyterLab."""
    answer = session.client.get(f"{session.client.prefix}/api/kernelspecs")
    return {name: each["spec"] for name, each in answer.json()["kernelspecs"].items()}


@pytest.mark.attack(
    "another account on the worker, at the debugger of a person's kernel, which has no login",
    outcome="JupyterLab offers no debugger for any kernel (jupyterhub_debugger).",
)
def test_no_kernel_is_offered_with_a_debugger(alice: Session) -> None:
    # This metadata tells JupyterLab whether to offer the debugger. Without the offer, a person can
    # still start the debugger of her own kernel by a message that she writes herself.
    debuggers = {
        name: each["metadata"]["debugger"] for name, each in kernels_offered(alice).items()
    }
    assert {"python3", "own"} <= set(debuggers)
    assert not any(debuggers.values())


@pytest.mark.attack(
    "another account, or another session, at a session's port",
    outcome="Refused: only hub and proxy get in, and no other program can bind the port.",
)
def test_only_hub_and_proxy_get_into_a_session(alice: Session, bob: Session) -> None:
    path = alice.client.prefix + "/api"
    target = f"({alice.host!r}, {alice.port}, {path!r}"
    # Try as another user on the same worker, outside any session.
    same_worker = host(alice.host)
    for how in ("none", "plain"):
        program = f"{KNOCK}\nprint(knock{target}, {how!r}))"
        outcome = same_worker.check_output("runuser -u bob -- python3 -c %s", program)
        assert outcome == "refused", how
    # Try from another session, without and with that session's own certificate.
    for how in ("none", "plain", "certificate"):
        assert bob.run(f"{KNOCK}\nprint(knock{target}, {how!r}))") == "refused", how
    # The hub's certificate, however, is accepted.
    call = (
        f'{AS_HUB}context.check_hostname = False\nurl = "https://{alice.host}:{alice.port}{path}"'
    )
    call += "\nprint(urllib.request.urlopen(url, timeout=10, context=context).status)"
    trusts = call.replace("hub-ca_trust.crt", "notebooks-ca/notebooks-ca.crt")
    assert host("hub").check_output("python3 -c %s", trusts) == "200"
    # Another account cannot bind the session's port, whatever the address and the option.
    take = (
        "import socket\n"
        "for kind, address in ((2, ''), (2, '127.0.0.1'), (10, '::'), (10, '::1')):\n"
        "    for option in (0, socket.SO_REUSEADDR, socket.SO_REUSEPORT):\n"
        "        s = socket.socket(kind)\n"
        "        if option: s.setsockopt(socket.SOL_SOCKET, option, 1)\n"
        f"        try: s.bind((address, {alice.port})); s.listen(); print(address, option)\n"
        "        except OSError: pass"
    )
    assert same_worker.check_output("runuser -u bob -- python3 -c %s", take) == ""


@pytest.mark.attack(
    "the hub's port and CHP's API, from a worker",
    outcome="Refused without a certificate. With a session's, the hub answers and CHP does not.",
)
def test_a_worker_without_a_certificate_reaches_neither_hub_nor_proxy(bob: Session) -> None:
    for address, port, path in (("hub", 8081, "/hub/api/"), ("proxy", 8001, "/api/routes")):
        for how in ("none", "plain"):
            program = f"{KNOCK}\nprint(knock({address!r}, {port}, {path!r}, {how!r}))"
            outcome = host("exec1").check_output("runuser -u bob -- python3 -c %s", program)
            assert outcome == "refused", (address, how)
    # A session may connect to the hub but not to the proxy.
    bob.run(KNOCK)
    assert bob.run("print(knock('hub', 8081, '/hub/api/', 'certificate'))") == "answered with 200"
    assert bob.run("print(knock('proxy', 8001, '/api/routes', 'certificate'))") == "refused"


@pytest.mark.attack(
    "passwords tried from a session, past the limits at the edge",
    outcome="Refused unchecked, and logged: passwords must come through the proxy.",
)
def test_a_session_cannot_try_passwords(
    bob: Session, passwords: dict[str, str], fetch: Callable[..., Answer]
) -> None:
    path, header = "/hub/api/users/bob/tokens", {"Content-Type": "application/json"}
    right = {"auth": {"username": "bob", "password": passwords["bob"]}, "expires_in": 60}
    body = json.dumps(right)
    assert fetch(path, "POST", body.encode(), **header).status == 201
    bob.run(KNOCK)
    arguments = f"'hub', 8081, {path!r}, 'certificate', {header!r}, {body!r}"
    assert bob.run(f"print(knock({arguments}))") == "answered with 403"
    address = host("hub").check_output(f"getent hosts {bob.host}").split()[0]
    message = f"A password for 'bob' came from {address}, not through the proxy"
    wait_for(
        "the hub has logged it",
        lambda: host("hub").run("journalctl -u jupyterhub -o cat | grep -F %s", message).rc == 0,
    )


@pytest.mark.attack(
    "a false address for the hub's log, from a session (X-Forwarded-For)",
    outcome="The hub logs the real address; it trusts the header only from the proxy.",
)
def test_only_the_proxy_may_name_another_client(bob: Session) -> None:
    direct, passed = f"/hub/direct-{uuid.uuid4().hex}", f"/hub/passed-{uuid.uuid4().hex}"
    forged = dict.fromkeys(("X-Forwarded-For", "X-Real-IP"), "192.0.2.66")
    bob.run(KNOCK)
    request = f"print(knock('hub', 8081, {direct!r}, 'certificate', {forged!r}))"
    assert bob.run(request) == "answered with 404"
    assert bob.client.get(passed).status_code == 404

    def logged_by_the_hub(path: str) -> str:
        return host("hub").run(f"journalctl -u jupyterhub -o cat | grep -F {path}").stdout

    log = wait_for("the hub's log has the first", lambda: logged_by_the_hub(direct))
    address = host("hub").check_output(f"getent hosts {bob.host}").split()[0]
    assert f"@{address})" in log and "192.0.2.66" not in log
    log = wait_for("the hub's log has the second", lambda: logged_by_the_hub(passed))
    by_nginx = host("proxy").check_output(f"grep -F {passed} /var/log/nginx/access.log")
    assert f"@{by_nginx.split()[0]})" in log


ROUTE = (
    AS_HUB
    + """
import json
token = open("/etc/jupyterhub/secrets/proxy_auth_token").read().strip()
def call(method, path, body=None):
    request = urllib.request.Request("https://proxy:8001/api/routes" + path, body, method=method)
    request.add_header("Authorization", "token " + token)
    return urllib.request.urlopen(request, timeout=5, context=context).read()
path, target = sys.argv[1:]
route = json.loads(call("GET", path))
if target:
    body = {"target": target, "user": route["user"], "server_name": route["server_name"]}
    call("POST", path, json.dumps(body).encode())
print(route["target"])
"""
)


def route(path: str, target: str = "") -> str:
    """Set ``target``, if given, as the target of a path's route; return the previous target."""
    return str(host("hub").check_output("python3 -c %s %s %s", ROUTE, path, target))


def status_at(session: Session, target: str) -> int:
    """Return the status of a session's address while its route has another target.

    The hub restores wrong targets every few minutes. If it did so during the request, the request
    is repeated.
    """
    for _ in range(3):
        route(session.client.prefix, target)
        status = int(session.client.get(session.client.prefix + "/api").status_code)
        if route(session.client.prefix) == target:
            return status
    pytest.fail("the hub restores the route each time")


@pytest.fixture
def alices_route(alice: Session) -> Iterator[str]:
    found = route(alice.client.prefix)
    yield found
    route(alice.client.prefix, found)


@pytest.mark.attack(
    "a session on the worker and port of another one that has just ended",
    outcome="Hub and proxy check the name in its certificate: 503, not another person's session.",
)
def test_a_session_is_not_mistaken_for_an_earlier_one(
    alice: Session, bob: Session, alices_route: str
) -> None:
    """Pretend that bob's session took over alice's worker and port, unnoticed by the hub."""
    name, _, address = alices_route.removeprefix("https://").partition("@")
    assert address.rstrip("/") == f"{alice.host}:{alice.port}"
    assert alice.client.get(alice.client.prefix + "/api").status_code == 200
    assert status_at(alice, f"https://{name}@{bob.host}:{bob.port}") == 503
    # Control: the proxy does reach bob's session if the route has the right name.
    assert status_at(alice, route(bob.client.prefix)) != 503


@pytest.mark.attack(
    "another name for the site, in the header Host",
    outcome="Certificates inside the cluster are checked for the session's name, not for this one.",
)
def test_the_host_header_does_not_matter_for_certificates(alice: Session) -> None:
    for name in ("jupyter.example.org", "jupyter.example.org:8443", "127.0.0.1", "exec1"):
        for path in (alice.client.prefix + "/api", "/hub/health"):
            answer = alice.client.get(path, headers={"Host": name}, allow_redirects=False)
            assert answer.status_code == 200, (name, path)


#: A program that prints all sockets of this account that other programs can reach. It finds TCP and
#: UDP ports by the owner of the socket, and Unix sockets by the processes that hold them.
LISTENING = """
import json, os
def lines(table):
    with open("/proc/net/" + table) as file:
        return [line.split() for line in file][1:]
held = set()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if os.stat("/proc/" + pid).st_uid == os.getuid():
            folder = "/proc/" + pid + "/fd/"
            held |= {os.readlink(folder + each) for each in os.listdir(folder)}
    except FileNotFoundError:
        pass  # it has just ended
found = {}
for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
    found[table] = [
        int(each[1].rpartition(":")[2], 16)
        for each in lines(table)
        if each[3] == state and int(each[7]) == os.getuid()
    ]
# Those with a name, without connections, which have the name of their target.
found["unix"] = [
    each[7] for each in lines("unix")
    if each[7:] and each[5] == "01" and "socket:[" + each[6] + "]" in held
]
print(json.dumps(found))
"""

#: Code for a kernel: it starts child processes in the usual ways, and each of them prints a text.
CHILDREN = """
import multiprocessing, os, sys
def child(what):
    print(what)
    sys.stdout.flush()
if not os.fork():
    child("by fork")
    os._exit(0)
os.wait()
other = multiprocessing.get_context("fork").Process(target=child, args=["by multiprocessing"])
other.start()
other.join()
os.system("echo by shell")
"""


@pytest.mark.attack(
    "honest output of a kernel's child processes",
    outcome="Shown in the notebook, also by kernels of a person's own environment.",
)
@pytest.mark.parametrize("which", ["the site's", "one of her own"])
def test_a_kernel_shows_the_output_of_its_child_processes(
    alice: Session, other_kernel: str, which: str
) -> None:
    kernel = alice.kernel if which == "the site's" else other_kernel
    for what in ("by fork", "by multiprocessing", "by shell"):
        # Try again until the text appears: the output may arrive after the cell has ended.
        wait_for(what, lambda what=what: what in alice.client.run(kernel, CHILDREN))


def listening(alice: Session, other_kernel: str) -> dict[str, list[Any]]:
    """Start programs of every kind in alice's session; return the sockets on which they listen."""
    alice.client.type_in_a_terminal("sleep 600 &\n")
    for kernel in (alice.kernel, other_kernel):
        start = "import subprocess; background = subprocess.Popen(['sleep', '600'])"
        alice.client.run(kernel, start)
    found = dict(
        json.loads(host(alice.host).check_output("runuser -u alice -- python3 -c %s", LISTENING))
    )
    for kernel in (alice.kernel, other_kernel):
        # Control: for each kernel, the search finds the five sockets of Jupyter's protocol.
        # ipykernel may have more sockets.
        assert len([each for each in found["unix"] if kernel in each]) >= 5, found
    return found


@pytest.mark.attack(
    "another account, at the ports and sockets of a session's programs: the server, a terminal,"
    " the site's kernel and one of the person's own environment",
    outcome="The server's is the only port; the rest are sockets in a folder that only the person"
    " can enter.",
)
def test_a_session_listens_only_on_its_port_and_in_a_private_folder(
    alice: Session, other_kernel: str
) -> None:
    found = listening(alice, other_kernel)
    sockets = found.pop("unix")
    ports = {table: set(each) for table, each in found.items() if each}
    assert ports in ({"tcp6": {alice.port}}, {"tcp": {alice.port}})
    folders = {each.rpartition("/")[0] for each in sockets}
    assert len(folders) == 1, sockets  # an abstract name has no folder
    owner, mode = host(alice.host).check_output("stat -c '%%U %%a' %s", folders.pop()).split()
    # Ignore the sticky bit, which Jupyter sets.
    assert (owner, int(mode, 8) & 0o777) == ("alice", 0o700)


#: A program that attacks the programs of another account, whose uid is its argument. It sends 40 MB
#: to each port of these programs, first as ZeroMQ messages and then as raw bytes. It also tries to
#: connect to every Unix socket. It prints how many pieces of the data each port has taken, and to
#: which sockets it could connect.
FLOOD = """
import json, socket, sys, zmq
PIECE = bytes(1 << 20)
def lines(table):
    with open("/proc/net/" + table) as file:
        return [line.split() for line in file][1:]
ports = {
    int(each[1].rpartition(":")[2], 16)
    for table in ("tcp", "tcp6") for each in lines(table)
    if each[3] == "0A" and each[7] == sys.argv[1]
}
result = {"messages": {}, "raw": {}, "sockets": [], "tried": []}
for port in ports:
    context = zmq.Context()
    pipe = context.socket(zmq.PUSH)
    pipe.linger, pipe.immediate, pipe.sndtimeo, pipe.sndhwm = 0, 1, 3000, 1
    pipe.connect("tcp://127.0.0.1:%d" % port)
    result["messages"][port] = 0
    try:
        for _ in range(40):
            pipe.send(PIECE)
            result["messages"][port] += 1
    except zmq.Again:
        pass
    context.destroy(linger=1000)
    link = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        for count in range(41):
            result["raw"][port] = count
            link.sendall(PIECE)
    except OSError:
        pass
    link.close()
for each in lines("unix"):
    if each[7:] and each[5] == "01":
        result["tried"].append(each[7])
        address = each[7].replace("@", "\\0", 1) if each[7].startswith("@") else each[7]
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as link:
                try:
                    link.connect(address)
                    result["sockets"].append(each[7])
                except OSError:
                    pass
print(json.dumps(result))
"""


@pytest.mark.attack(
    "40 MB from another account on the worker, to all ports and sockets of a session",
    outcome="The server's port closes the connection, no socket accepts one; the session's log and"
    " memory do not grow.",
)
def test_a_session_takes_no_data_from_another_account(
    alice: Session, other_kernel: str, hub_host: Any
) -> None:
    found = listening(alice, other_kernel)
    worker = host(alice.host)
    uid = worker.check_output("id -u alice")

    def memory() -> int:
        """Return the memory that all of alice's programs on the worker use, in MB."""
        sizes = worker.check_output(f"ps -u {uid} -o rss=").split()
        return sum(map(int, sizes)) // 1024

    def log() -> int:
        newest = "wc -c < $(ls -t /home/alice/.jupyterhub-sessions/*.log | head -1)"
        return int(hub_host.check_output(newest))

    before = memory(), log()
    flood = f"runuser -u bob -- {SESSION_PYTHON} -c %s {uid}"
    result = json.loads(worker.check_output(flood, FLOOD))
    after = memory(), log()
    taken = result["messages"], result["raw"], before, after
    assert set(result["messages"].values()) == {0}, taken
    assert max(result["raw"].values()) < 8, taken  # pieces sent before the server hung up
    assert set(found["unix"]) <= set(result["tried"])
    assert not set(found["unix"]) & set(result["sockets"])
    assert after[0] - before[0] < 20
    assert after[1] - before[1] < 4096


@pytest.mark.attack(
    "another person's kernels on the same worker",
    outcome="They listen on sockets in a folder that only that person can enter.",
)
def test_kernels_listen_on_sockets_in_a_private_folder(alice: Session) -> None:
    found = json.loads(
        alice.run(
            "import json, os\nfrom ipykernel.connect import get_connection_file\n"
            "file = get_connection_file(); folder = os.path.dirname(file)\n"
            "mode = lambda path: oct(os.stat(path).st_mode & 0o777)\n"
            "found = json.load(open(file))\n"
            "modes = [mode(file), mode(folder)]\n"
            "print(json.dumps([found['transport'], found['ip'], folder, *modes]))"
        )
    )
    transport, sockets, folder, file_mode, folder_mode = found
    assert (transport, file_mode, folder_mode) == ("ipc", "0o600", "0o700")
    assert sockets.startswith(folder + "/")
    assert not folder.startswith("/home")
    worker = host(alice.host)
    alice.client.stop()
    wait_for("the folder is gone", lambda: not worker.file(folder).exists)


@pytest.mark.attack(
    "reading the keys of hub and proxy, as any other account",
    outcome="Mode 0600 or 0400, in folders that only their owners can list.",
)
def test_only_their_owners_can_read_the_keys_inside_the_cluster() -> None:
    for name, folder, owner, others in (
        ("hub", "/var/lib/jupyterhub/internal-ssl", "jupyterhub", ("bob", "nobody")),
        ("proxy", "/etc/jupyterhub-proxy/internal-tls", "jupyterhub-proxy", ("www-data", "nobody")),
    ):
        machine = host(name)
        keys = machine.check_output(f"find {folder} -name '*.key' -printf '%u %m\\n'").splitlines()
        assert keys
        assert {tuple(key.split()) for key in keys} <= {(owner, "600"), (owner, "400")}
        for other in others:
            # The other account cannot even read the names of the files.
            reading = f"runuser -u {other} -- find {folder} -name '*.key' -exec cat {{}} +"
            assert machine.run(reading).stdout == ""
            assert machine.run(f"runuser -u {other} -- ls {folder}").rc != 0


#: A command that finds files that an account other than root owns or may change.
NOT_ROOTS = "find {folder} ! -type l '(' ! -user root -o -perm /022 ')'"


@pytest.mark.attack(
    "a person's program in place of one of the session's or the proxy's",
    outcome="Root owns their environments, and only root may write there.",
)
def test_only_root_can_change_the_environments(exec1_host: Any) -> None:
    for name, folder in (
        ("exec1", "/opt/jupyterhub-session"),
        ("exec2", "/opt/jupyterhub-session"),
        ("proxy", "/opt/jupyterhub-proxy"),
        ("hub", "/opt/jupyterhub"),
    ):
        assert int(host(name).check_output(f"find {folder} | wc -l")) > 1000, "the folder is empty"
        assert host(name).check_output(NOT_ROOTS.format(folder=folder)) == "", name
    for worker in ("exec1", "exec2"):
        # Every kernel on the worker runs this file.
        assert host(worker).check_output("ls /etc/ipython") == "ipython_kernel_config.py"
        assert host(worker).check_output(NOT_ROOTS.format(folder="/etc/ipython")) == "", worker
    for lax in ("chmod o+w", "chmod g+w", "chown bob"):
        exec1_host.check_output(f"touch /tmp/lax && {lax} /tmp/lax")
        found = exec1_host.check_output(NOT_ROOTS.format(folder="/tmp/lax"))
        exec1_host.check_output("rm /tmp/lax")
        assert found == "/tmp/lax", lax
