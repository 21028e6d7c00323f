# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's signals that announce a limit, a suspension or the end of the session's job.

Without a handler, each of them would end the server at once. Grid Engine sends SIGUSR1 at the limit
``s_rt`` and SIGXCPU at ``s_cpu`` and ``s_vmem`` (queue_conf(5)). With ``qsub -notify``, it sends
SIGUSR1 before a suspension and SIGUSR2 before SIGKILL; the time between the two signals is the
queue's ``notify``, usually 60 s.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from gridhub.session.notices import Notifier
from gridhub.session.rules import Rules
from gridhub.session.status import Status

#: The signals, and the names of their sentences ``session.NAME``.
SIGNALS = {signal.SIGUSR1: "usr1", signal.SIGXCPU: "xcpu", signal.SIGUSR2: "usr2"}

#: How long the pages may take to save before the server ends, in seconds. Pages that are seen ask
#: more often than that.
SAVE_WITHIN = 12.0

#: Do not repeat the notice of a signal within so many seconds. Beyond its limit of processor time,
#: a process gets SIGXCPU every second (setrlimit(2)).
REPEAT_AFTER = 600.0


class Signals:
    """Receives the signals, also before the server's event loop runs."""

    def __init__(self) -> None:
        self._early: list[signal.Signals] = []
        for number in SIGNALS:
            signal.signal(number, lambda got, _: self._early.append(signal.Signals(got)))

    async def watch(
        self, rules: Rules, notifier: Notifier, status: Status, end: Callable[[], None]
    ) -> None:
        """Tell the person about each signal, and let the pages save.

        :param end: ends the server; called if Grid Engine announces the end of the job.
        """
        received: asyncio.Queue[signal.Signals] = asyncio.Queue()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, received.put_nowait, number)
        for number in self._early:
            received.put_nowait(number)
        told: dict[signal.Signals, float] = {}
        notices = []  # asyncio itself keeps no reference to a task
        while True:
            number = await received.get()
            now = time.monotonic()
            if now - told.get(number, -REPEAT_AFTER) < REPEAT_AFTER:
                continue
            told[number] = now
            print(f"Grid Engine sent {number.name}", flush=True)
            status.save()
            if words := rules.text(SIGNALS[number]):
                notices.append(asyncio.ensure_future(notifier.notify_until_shown(words)))
            if number == signal.SIGUSR2:
                if status.is_watched():
                    await asyncio.sleep(SAVE_WITHIN)
                for notice in notices:
                    notice.cancel()
                end()
                return
