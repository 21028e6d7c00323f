# SPDX-License-Identifier: BSD-3-Clause
"""Read what is free on each queue instance, and find out what a session needs but cannot get."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gridhub.grid.command import parse_tree
from gridhub.grid.engine import AnswerError
from gridhub.grid.numbers import read_number


@dataclass(frozen=True)
class QueueInstance:
    """A queue instance; ``resources`` holds the free amounts in Grid Engine's base units."""

    queue: str
    host: str
    slots: int
    free: int
    #: Whether the queue instance takes new jobs: it is not disabled, suspended, unreachable or in
    #: an error state.
    is_open: bool
    resources: Mapping[str, float] = field(default_factory=dict)


def parse_places(xml: bytes) -> list[QueueInstance]:
    """Parse the output of ``qstat -f -F COMPLEX,… -xml``.

    :raises AnswerError: when the XML is not the output of this command.
    """
    queues = parse_tree(xml).find("queue_info")
    if queues is None:
        raise AnswerError("qstat did not print queues")
    places = []
    for entry in queues.iterfind("Queue-List"):
        queue, _, host = entry.findtext("name", "").strip().partition("@")
        resources = {
            name: number
            for resource in entry.iterfind("resource")
            if (name := resource.get("name"))
            and (number := read_number(resource.text or "")) is not None
        }
        try:
            slots = int(entry.findtext("slots_total", ""))
            taken = int(entry.findtext("slots_used", "")) + int(entry.findtext("slots_resv", "0"))
        except ValueError as error:
            raise AnswerError(f"qstat printed a queue that cannot be read: {error}") from error
        # A queue instance with any state letter (qstat(1)), even that of an alarm, takes no new
        # jobs.
        is_open = not (entry.findtext("state") or "").strip()
        free = int(min(resources.get("slots", math.inf), slots - taken))
        places.append(QueueInstance(queue, host, slots, max(free, 0), is_open, resources))
    return places


@dataclass(frozen=True)
class Requirements:
    """What a session needs: the number of slots, and the total amount of each consumable.

    ``resources`` holds the totals in Grid Engine's base units, keyed by complex.
    """

    slots: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)
    #: ``NAME``, ``NAME@HOST`` or ``NAME@@GROUP``, as for ``qsub -q``; the group is ignored here.
    queue: str = ""

    def may_use(self, place: QueueInstance) -> bool:
        """Return whether a queue instance is open and matches :attr:`queue`."""
        queue, _, host = self.queue.partition("@")
        return place.is_open and (
            not queue or (place.queue == queue and (host in ("", place.host) or host[0] == "@"))
        )


#: The only name that :func:`unavailable_resources` returns if it finds no usable queue instance.
CLOSED = "closed"

#: The name for slots in the result of :func:`unavailable_resources`.
SLOTS = "slots"


def unavailable_resources(want: Requirements, places: Iterable[QueueInstance]) -> frozenset[str]:
    """Return the resources that a session needs but that are not free on the best queue instance.

    The best queue instance is the one that lacks the fewest resources.

    :returns: :data:`SLOTS` and names of complexes; only :data:`CLOSED` if the session may use no
        queue instance; empty if the session can start.
    """
    least: frozenset[str] | None = None
    for place in places:
        if not want.may_use(place):
            continue
        unavailable = {
            name
            for name, amount in want.resources.items()
            # Count a consumable that a host does not list as 0.
            if place.resources.get(name, 0.0) < amount
        }
        if place.free < want.slots:
            unavailable.add(SLOTS)
        # On a tie, prefer an instance that lacks slots: slots become free, but an instance that
        # lacks, for example, a GPU may never have one.
        rank = len(unavailable), SLOTS not in unavailable
        if least is None or rank < (len(least), SLOTS not in least):
            least = frozenset(unavailable)
    return frozenset({CLOSED}) if least is None else least


def free(places: Iterable[QueueInstance], name: str, queue: str = "") -> tuple[float, float]:
    """Return how much of a consumable (or :data:`SLOTS`) is free: in total, and on the best host.

    The queues of a host share its resources, so each host counts once, with the largest amount that
    any of its queues offers.

    :param queue: count only this queue, written as in :attr:`Requirements.queue`.
    """
    want = Requirements(queue=queue)
    hosts: dict[str, float] = {}
    for place in places:
        if want.may_use(place):
            amount = float(place.free) if name == SLOTS else place.resources.get(name, 0.0)
            hosts[place.host] = max(hosts.get(place.host, 0.0), amount)
    return sum(hosts.values()), max(hosts.values(), default=0.0)


def parse_queue(xml: bytes) -> list[int]:
    """Return the numbers of all waiting jobs, in the scheduler's order (``qstat -s p -xml``).

    :raises AnswerError: when the XML is not a job list.
    """
    waiting = parse_tree(xml).find("job_info")
    if waiting is None:
        raise AnswerError("qstat did not print a job list")
    numbers = [entry.findtext("JB_job_number", "") for entry in waiting.iterfind("job_list")]
    return list(dict.fromkeys(int(number) for number in numbers if number.isdecimal()))
