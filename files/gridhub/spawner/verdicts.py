# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's verdicts on choices, shared and limited: whether each could start."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from gridhub.broker.client import BrokerClient
from gridhub.broker.protocol import Answer, Check
from gridhub.grid.engine import GridEngineError
from gridhub.grid.status import CachedQuery
from gridhub.menu.items import Choice

#: How many verdicts are kept for a moment, of all people and of one: a person who tries many
#: choices pushes out their own.
MAX_VERDICTS = 500
MAX_VERDICTS_EACH = 20

#: Seconds between two questions about the same choice; an answer that stays the same is asked for
#: less often, up to the second.
INTERVAL = 10.0
LONGEST_INTERVAL = 40.0

#: How many choices may be checked or wait for it, of all people and of one.
MAX_CHECKS = 50
MAX_CHECKS_EACH = 3

#: How long a page waits for a verdict, in seconds.
PATIENCE = 5.0


class Verdicts:
    """Asks the broker for verdicts, two at a time.

    Starts and stops have a line of their own: playing with the form does not hold them up.
    """

    def __init__(self, broker: Path, timeout: float) -> None:
        self._broker = BrokerClient(broker, timeout, at_once=2)
        #: How many checks of each person run or wait.
        self.checks: Counter[str] = Counter()
        #: By person, choice and what was missing for it: what is free is shown beside it.
        self.kept: dict[tuple[str, str, frozenset[str] | None], CachedQuery[Answer]] = {}

    async def verdict(
        self, person: str, choice: Choice, missing: frozenset[str] | None
    ) -> Answer | None:
        """Return Grid Engine's verdict on a choice, or the broker's refusal, if there is one.

        :param missing: what is missing for the choice, as
            :func:`~gridhub.spawner.waiting.missing_for` returns it; a change is a new question.
        """
        key = person, repr(sorted(choice.values.items())), missing
        request = Check(user=person, choice=choice.values)

        async def check() -> Answer:
            if self.checks[person] >= MAX_CHECKS_EACH or self.checks.total() >= MAX_CHECKS:
                raise GridEngineError("too many choices are being checked")
            self.checks[person] += 1
            try:
                return await self._broker.ask(request)
            except (OSError, TimeoutError) as error:
                raise GridEngineError(f"broker: {error!r}") from error
            finally:
                self.checks[person] -= 1

        query = self.kept.pop(key, None) or CachedQuery(check, INTERVAL, longest=LONGEST_INTERVAL)
        self.kept[key] = query
        own = [each for each in self.kept if each[0] == person]
        if len(own) > MAX_VERDICTS_EACH:
            del self.kept[own[0]]
        elif len(self.kept) > MAX_VERDICTS:
            del self.kept[next(iter(self.kept))]
        return await query.look(PATIENCE)
