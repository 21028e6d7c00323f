"""Calls of the broker, as the hub makes them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from cluster import PREFIX

#: A program that sends its standard input to the broker and prints the answer.
CALL = """
import shutil, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/jupyterhub-broker.sock")
s.sendall(sys.stdin.buffer.read())
s.shutdown(socket.SHUT_WR)
shutil.copyfileobj(s.makefile("rb"), sys.stdout.buffer)
"""


def ask(**request: object) -> dict[str, Any]:
    """Send a request to the broker as the hub does; return the answer."""
    run = subprocess.run(
        ["podman", "exec", "--interactive", "--user", "jupyterhub", f"{PREFIX}-hub"]
        + ["python3", "-c", CALL],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(run.stdout))
