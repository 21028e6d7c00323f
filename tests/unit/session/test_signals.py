# SPDX-License-Identifier: BSD-3-Clause
"""What a session does with the signals by which Grid Engine announces something."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fake_grid import until
from gridhub.session import signals as signals_module
from gridhub.session.rules import read_rules
from gridhub.session.signals import SIGNALS, Signals
from started import RULES

WORDS = {"usr1": "soon suspended", "xcpu": "near a limit", "usr2": "ends now"}


class Notifier:
    """Keeps the notices that a person would see."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    async def notify_until_shown(self, message: str) -> bool:
        self.notices.append(message)
        return True


class Watched:
    """A session whose signals are watched."""

    def __init__(self, signals: Signals, *, words: dict[str, str] = WORDS) -> None:
        self.notifier: Any = Notifier()
        self.saves = 0
        self.is_watched = True
        self.ended = False
        status: Any = SimpleNamespace(save=self._save, is_watched=lambda: self.is_watched)
        rules = read_rules(RULES | {"words": RULES["words"] | words})
        self.task = asyncio.ensure_future(signals.watch(rules, self.notifier, status, self._end))

    def _save(self) -> None:
        self.saves += 1

    def _end(self) -> None:
        self.ended = True


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signals]:
    monkeypatch.setattr(signals_module, "SAVE_WITHIN", 0.2)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Signals()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
async def session(signals: Signals) -> AsyncIterator[Watched]:
    session = Watched(signals)
    await asyncio.sleep(0)
    yield session
    session.task.cancel()
    await asyncio.gather(session.task, return_exceptions=True)


@pytest.mark.parametrize(("number", "words"), [(signal.SIGUSR1, "usr1"), (signal.SIGXCPU, "xcpu")])
async def test_the_person_reads_what_is_announced_and_the_pages_save(
    session: Watched, number: signal.Signals, words: str
) -> None:
    os.kill(os.getpid(), number)
    await until(lambda: session.notifier.notices)
    assert (session.notifier.notices, session.saves) == ([WORDS[words]], 1)
    assert not session.ended


async def test_a_signal_that_comes_every_second_is_one_notice(session: Watched) -> None:
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGXCPU)
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGUSR1)
    await until(lambda: len(session.notifier.notices) == 2)
    assert session.notifier.notices == [WORDS["xcpu"], WORDS["usr1"]]


async def test_a_session_whose_end_is_announced_ends_once_its_pages_have_saved(
    session: Watched,
) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)
    await until(lambda: session.saves)
    assert not session.ended
    await until(lambda: session.ended)


async def test_without_pages_it_ends_at_once(session: Watched, monkeypatch: Any) -> None:
    monkeypatch.setattr(signals_module, "SAVE_WITHIN", 1000.0)
    session.is_watched = False
    os.kill(os.getpid(), signal.SIGUSR2)
    await until(lambda: session.ended)


async def test_a_signal_during_the_start_is_not_lost(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    session = Watched(signals)
    await until(lambda: session.notifier.notices)
    session.task.cancel()


async def test_a_session_from_before_an_upgrade_has_no_words_for_it(signals: Signals) -> None:
    session = Watched(signals, words={})
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGUSR1)
    await until(lambda: session.saves)
    assert not session.notifier.notices
    session.task.cancel()
