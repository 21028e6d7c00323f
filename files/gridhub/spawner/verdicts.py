# SPDX-License-Identifier: BSD-3-Clause
"""A cache of Grid Engine's verdicts on whether a session with a choice could start."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from gridhub.broker.client import BrokerClient
from gridhub.broker.protocol import Answer, Check
from gridhub.grid.cluster_status import CachedQuery
from gridhub.grid.engine import GridEngineError
from gridhub.menu.items import Choice
from gridhub.spawner import metrics

#: How many verdicts the cache holds in total, and for each person. If a person tries many choices,
#: only verdicts for this person are removed.
MAX_VERDICTS = 500
MAX_VERDICTS_EACH = 20

#: Seconds between two queries about the same choice. While the answer stays the same, the time
#: between queries grows from ``INTERVAL`` to ``LONGEST_INTERVAL``.
INTERVAL = 10.0
LONGEST_INTERVAL = 40.0

#: How many checks may run or wait, in total and for each person.
MAX_CHECKS = 50
MAX_CHECKS_EACH = 3

#: How long a page waits for a verdict, in seconds.
PATIENCE = 5.0


class Verdicts:
    """A cache of verdicts. It requests new verdicts from the broker, at most two at a time.

    The cache has its own client of the broker, so that checks do not delay starts and stops of
    sessions.
    """

    def __init__(self, broker: Path, timeout: float) -> None:
        self._broker = BrokerClient(broker, timeout, at_once=2, observe=metrics.decision)
        #: How many of each person's checks run or wait.
        self.checks: Counter[str] = Counter()
        #: The verdicts, keyed by the person, the choice, and the requested resources that were not
        #: free. If other resources are free now, a new verdict is needed: a page shows the verdict
        #: beside the free resources, and must not contradict itself.
        self.kept: dict[tuple[str, str, frozenset[str] | None], CachedQuery[Answer]] = {}

    async def verdict(
        self, person: str, choice: Choice, unavailable: frozenset[str] | None
    ) -> Answer | None:
        """Return Grid Engine's verdict on a choice, or the broker's refusal; ``None`` if unknown.

        :param unavailable: the result of :func:`~gridhub.spawner.waiting.unavailable_for` for the
            choice; a new value causes a new query.
        """
        key = person, repr(sorted(choice.values.items())), unavailable
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
