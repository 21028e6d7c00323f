# SPDX-License-Identifier: BSD-3-Clause
"""How often one person may ask the hub for something. :mod:`gridhub.hub.guard` holds them to it.

The proxy's limits are for each address. A session reaches the hub past the proxy, and a person may
have many addresses: these limits are for each person, wherever their requests come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

#: When to drop the entries of people who have been quiet: at this number of them at the earliest.
SWEEP_AT = 1000


@dataclass(frozen=True)
class Rate:
    """How often something may happen: ``burst`` times at once, then ``per_minute``."""

    burst: int
    per_minute: float

    def __post_init__(self) -> None:
        """Refuse a rate at which nothing could ever happen.

        :raises ValueError: for one.
        """
        if self.burst < 1 or self.per_minute <= 0:
            raise ValueError(f"{self} allows nothing")

    @property
    def pause(self) -> float:
        """Seconds between two of them in the long run."""
        return 60.0 / self.per_minute


def rates(starts: int = 30) -> dict[str, Rate]:
    """Return the rates of what a person may ask for.

    :param starts: how many starts of sessions a person may ask for at once; a fifth of that each
        minute afterwards.
    """
    return {
        # A process of the broker's and a job each.
        "starts": Rate(starts, starts / 5),
        # The form and its forecasts: a thread for the directory, or processes for Grid Engine. A
        # form that is open asks every ten seconds, and at each change.
        "looks": Rate(60, 60),
        # A row of the database each, ...
        "tokens": Rate(20, 10),
        # ... as is a login to a session, which is a token as well.
        "logins": Rate(60, 30),
        # What ends a session or reports about it, and what sessions ask about their visitors.
        "reports": Rate(600, 600),
        # All other requests: pages, the API.
        "requests": Rate(600, 600),
        # Lines of the log about one person who has met one of these limits.
        "lines": Rate(1, 1),
    }


class Limits:
    """Token buckets, one for each person and kind of request.

    Its memory is bounded by the number of people: only names of people who have logged in may come
    here, and whoever has been quiet for a while is forgotten.
    """

    def __init__(
        self,
        rates: Mapping[str, Rate],
        tokens: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rates = dict(rates)
        #: How many tokens of their own a person may have.
        self.tokens = tokens
        self._clock = clock
        #: When each bucket is full again.
        self._full: dict[tuple[str, str], float] = {}
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        """Return how many buckets are not known to be full."""
        return len(self._full)

    def take(self, person: str, kind: str, what: str = "") -> float:
        """Count a request of a person, if it is within the limit.

        :param kind: one of the rates.
        :param what: of what kind it is where several share a rate.
        :returns: 0 if it is; otherwise the seconds until one more is.
        :raises KeyError: when there is no such rate.
        """
        rate = self._rates[kind]
        now = self._clock()
        key = person, f"{kind} {what}"
        full = max(self._full.get(key, now), now)
        # As full as it must be for one more: rounding must not cost a person the last one.
        wait = full - now - (rate.burst - 1) * rate.pause
        if wait > 1e-6:
            return wait
        if len(self._full) >= self._sweep_at:
            self._full = {each: when for each, when in self._full.items() if when > now}
            self._sweep_at = max(2 * len(self._full), SWEEP_AT)
        self._full[key] = full + rate.pause
        return 0.0


def whole_wait(seconds: float) -> tuple[int, str]:
    """Return a wait in whole seconds or minutes, rounded up, and the name of its unit."""
    if seconds > 90:
        return ceil(seconds / 60), "minutes"
    return max(ceil(seconds), 1), "seconds"
