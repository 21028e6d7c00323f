# SPDX-License-Identifier: BSD-3-Clause
"""Requests, a menu and helpers for the broker's tests."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridhub.broker.protocol import Start
from gridhub.contract import SESSION_FOLDER

Fake = Callable[[str, str], Path]


TOKEN = "5ec4e7" * 8


PORTS = (40000, 40999)


ENVIRONMENT = {"JUPYTERHUB_API_TOKEN": TOKEN, "JUPYTERHUB_USER": "alice"}


#: The name of the session in the recorded answers.
SESSION = "00112233445566778899aabbccddeeff"


START = {
    "action": "start",
    "user": "alice",
    "session": SESSION,
    "server": "",
    "choice": {"cores": 2},
    "environment": ENVIRONMENT,
}


MENU = [
    {
        "name": "cores",
        "label": "CPU cores",
        "choices": [1, 2, 4],
        "default": 1,
        "request": {"kind": "slots", "parallel_environment": "smp"},
    },
    {
        "name": "memory",
        "label": "Memory",
        "unit": "GB",
        "choices": [2, 4],
        "default": 2,
        "request": {"kind": "memory", "complex": "h_vmem", "per": "slot"},
    },
    {
        "name": "gpus",
        "label": "GPUs",
        "choices": [0, 1, 2],
        "default": 0,
        "groups": ["no-such-group"],
        "request": {"kind": "count", "complex": "gpu", "per": "job"},
    },
    {
        "name": "mail",
        "label": "Mail to",
        # This pattern allows any text. The broker must still refuse values that are not addresses.
        "text": {"pattern": "(?s).*", "example": "alice@example.org"},
        "default": "",
        "request": {"kind": "mail"},
    },
    {
        "name": "queue",
        "label": "Queue",
        "options": [
            {"value": "", "label": "Any"},
            {"value": "short.q", "label": "Short"},
            {"value": "gpu.q", "label": "GPU", "groups": ["no-such-group"]},
        ],
        "default": "",
        "request": {"kind": "queue"},
    },
    {
        "name": "software",
        "label": "Software",
        "options": [
            {"value": "", "label": "None"},
            {"value": "conda", "label": "Anaconda", "prologue": "module load anaconda"},
        ],
        "default": "",
        "request": {"kind": "environment"},
    },
]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


def request(**changes: Any) -> Start:
    return Start.model_validate(START | changes)


def secrets_in(home: Path) -> list[Path]:
    return sorted((home / SESSION_FOLDER).glob("*.json"))


def send(connection: socket.socket, data: bytes) -> None:
    # Sending fails if the request is too long, because the broker then stops reading.
    with contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
