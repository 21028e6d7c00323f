# SPDX-License-Identifier: BSD-3-Clause
"""The log of the program that ends idle sessions; jupyterhub-idle-culler itself is a stub."""

from __future__ import annotations

import subprocess
import sys

from folders import FILES

TOKEN = "a05ef59e7f0e4256a79fe0ddf13cf237"


def test_the_log_of_the_culler_has_no_token_if_the_hub_does_not_answer() -> None:
    program = f"""
import asyncio, functools, runpy, sys, types
from tornado.ioloop import PeriodicCallback

async def cull_idle(url, api_token):
    raise ConnectionRefusedError("no hub")

def main():
    async def work():
        call = functools.partial(cull_idle, url="", api_token={TOKEN!r})
        PeriodicCallback(call, 10).start()
        await asyncio.sleep(0.5)
    asyncio.run(work())

sys.modules["jupyterhub_idle_culler"] = types.SimpleNamespace(main=main)
runpy.run_path({str(FILES / "sge_culler.py")!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "Cannot look for idle sessions now" in done.stderr, done.stderr
    assert "ConnectionRefusedError: no hub" in done.stderr
    assert TOKEN not in done.stderr + done.stdout
