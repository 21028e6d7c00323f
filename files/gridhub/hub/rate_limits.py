# SPDX-License-Identifier: BSD-3-Clause
"""Limits on how often one person may send requests; :mod:`gridhub.hub.guard` applies them.

The proxy limits the requests from each address. That is not enough: sessions reach the hub without
the proxy, and a person may have many addresses. So the hub counts the requests of each person, from
all addresses together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

#: Once there are this many buckets, drop the buckets of people who have sent no requests lately.
SWEEP_AT = 1000


@dataclass(frozen=True)
class Rate:
    """A rate of requests: ``burst`` requests at once, then ``per_minute`` requests each minute."""

    burst: int
    per_minute: float

    def __post_init__(self) -> None:
        """Check the rate.

        :raises ValueError: when the rate allows no requests at all.
        """
        if self.burst < 1 or self.per_minute <= 0:
            raise ValueError(f"{self} allows nothing")

    @property
    def pause(self) -> float:
        """Seconds between two requests in the long run."""
        return 60.0 / self.per_minute


def rates(starts: int = 30) -> dict[str, Rate]:
    """Return the rate for each kind of request.

    :param starts: how many session starts a person may request at once; after that, ``starts / 5``
        each minute.
    """
    return {
        # Each start costs a broker process and a job.
        "starts": Rate(starts, starts / 5),
        # Requests for the form or its forecasts: each request costs Grid Engine commands, or a
        # thread that queries the directory service. An open form requests a forecast every ten
        # seconds and at each change.
        "looks": Rate(60, 60),
        # Each new token costs a row in the database.
        "tokens": Rate(20, 10),
        # A login to a session is stored as a token, too.
        "logins": Rate(60, 30),
        # Requests to stop sessions, reports from sessions, and sessions' queries about visitors.
        "reports": Rate(600, 600),
        # All other requests, such as those for pages and to the API.
        "requests": Rate(600, 600),
        # Log lines that say that a person has reached one of these limits.
        "lines": Rate(1, 1),
    }


class Limits:
    """Token buckets, one for each person and kind of request.

    Memory is bounded by the number of people: callers may pass only names of people who have logged
    in, and full buckets are dropped.
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
        #: The time at which each bucket is full again.
        self._full: dict[tuple[str, str], float] = {}
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        """Return the number of stored buckets; a bucket that is not stored is full."""
        return len(self._full)

    def take(self, person: str, kind: str, what: str = "") -> float:
        """Count a person's request if it is within the limit.

        :param kind: the name of one of the rates.
        :param what: the name of a subdivision of ``kind``; each subdivision has a separate bucket.
        :returns: 0 if the request is within the limit; else the number of seconds until another
            request will be within the limit.
        :raises KeyError: when there is no such rate.
        """
        rate = self._rates[kind]
        now = self._clock()
        key = person, f"{kind} {what}"
        full = max(self._full.get(key, now), now)
        # The time until the bucket has room for one more request. The tolerance of 1e-6 prevents a
        # rounding error from refusing the last request that is within the limit.
        wait = full - now - (rate.burst - 1) * rate.pause
        if wait > 1e-6:
            return wait
        if len(self._full) >= self._sweep_at:
            self._full = {each: when for each, when in self._full.items() if when > now}
            self._sweep_at = max(2 * len(self._full), SWEEP_AT)
        self._full[key] = full + rate.pause
        return 0.0


def whole_wait(seconds: float) -> tuple[int, str]:
    """Return a waiting time in whole seconds or minutes, rounded up, and the name of the unit."""
    if seconds > 90:
        return ceil(seconds / 60), "minutes"
    return max(ceil(seconds), 1), "seconds"
