# SPDX-License-Identifier: BSD-3-Clause
"""Read what is free on each queue instance, and find out what a session needs but cannot get."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from gridhub.grid.command import parse_tree
from gridhub.grid.engine import AnswerError
from gridhub.grid.numbers import read_number

#: The complex of a job's slots, and the load value with the number of a host's processors.
SLOTS = "slots"
CORES = "num_proc"

#: The state letters of a suspended queue instance (qstat(1)): by a command, by the queue above it,
#: by its calendar.
_SUSPENDED = frozenset("sSC")


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
    #: Where each resource has its smallest amount: ``q`` for the queue instance, ``h`` for the
    #: host, ``g`` for the whole cluster (complex(5)).
    levels: Mapping[str, str] = field(default_factory=dict)
    #: The number of slots that jobs occupy, or that are reserved.
    used: int = 0
    #: The number of the host's processors; 0 if not known.
    cores: int = 0
    #: Whether a session that names no queue may use it: the site's own arguments do not leave it
    #: out.
    is_offered: bool = True

    def matches(self, queue: str) -> bool:
        """Return whether ``qsub -q`` with this pattern includes the queue instance.

        :param queue: ``NAME``, ``NAME@HOST`` or ``NAME@@GROUP``; every host may be in the group.
        """
        name, _, host = queue.partition("@")
        is_here = not host or host.startswith("@") or fnmatchcase(self.host, host)
        return is_here and fnmatchcase(self.queue, name)


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
        resources, levels = {}, {}
        for resource in entry.iterfind("resource"):
            # After the amount, a complex of type RSMAP may have the names of its things.
            amount = (resource.text or "").partition("(")[0]
            name, number = resource.get("name"), read_number(amount)
            if name and number is not None:
                resources[name] = number
                levels[name] = resource.get("type", "")[:1]
        cores = resources.pop(CORES, 0.0)
        try:
            slots = int(entry.findtext("slots_total", ""))
            taken = int(entry.findtext("slots_used", "")) + int(entry.findtext("slots_resv", "0"))
        except ValueError as error:
            raise AnswerError(f"qstat printed a queue that cannot be read: {error}") from error
        states = (entry.findtext("state") or "").strip()
        # The programs of a suspended queue instance do not run, so its cores are free for others.
        used = 0 if set(states) & _SUSPENDED else taken
        # A queue instance with any state letter (qstat(1)), even that of an alarm, takes no new
        # jobs.
        free = int(max(min(resources.get(SLOTS, math.inf), slots - taken), 0))
        places.append(
            QueueInstance(queue, host, slots, free, not states, resources, levels, used, int(cores))
        )
    return places


@dataclass(frozen=True)
class Requirements:
    """What a session needs: the number of slots, and the total amount of each consumable.

    ``resources`` holds the totals in Grid Engine's base units, keyed by complex.
    """

    slots: int = 1
    resources: Mapping[str, float] = field(default_factory=dict)
    #: The session's own queue, as for :meth:`QueueInstance.matches`; empty if it names none.
    queue: str = ""

    def may_use(self, place: QueueInstance) -> bool:
        """Return whether a queue instance is open and offered, or the session's own."""
        offered = place.matches(self.queue) if self.queue else place.is_offered
        return place.is_open and offered

    def lacking(self, place: QueueInstance) -> set[str]:
        """Return the resources of which a queue instance has too little; slots are ignored."""
        return {
            name
            for name, amount in self.resources.items()
            # Count a consumable that a host does not list as 0.
            if place.resources.get(name, 0.0) < amount
        }


#: The only name that :func:`unavailable_resources` returns if it finds no usable queue instance.
CLOSED = "closed"


def unavailable_resources(want: Requirements, places: Iterable[QueueInstance]) -> frozenset[str]:
    """Return the resources that a session needs but that are not free on the best queue instance.

    The best queue instance is the one that lacks the fewest resources. Slots may come from several
    queue instances of a host (seen with 8.1.9).

    :returns: :data:`SLOTS` and names of complexes; only :data:`CLOSED` if the session may use no
        queue instance; empty if the session can start.
    """
    least: frozenset[str] | None = None
    lacking = [(place, want.lacking(place)) for place in places if want.may_use(place)]
    for place, unavailable in lacking:
        # Only queue instances that have everything else can add slots.
        others = [other for other, names in lacking if other is place or not names]
        if _free_here(others, place.host, SLOTS) < want.slots:
            unavailable = {*unavailable, SLOTS}
        # On a tie, prefer an instance that lacks slots: slots become free, but an instance that
        # lacks, for example, a GPU may never have one.
        rank = len(unavailable), SLOTS not in unavailable
        if least is None or rank < (len(least), SLOTS not in least):
            least = frozenset(unavailable)
    return frozenset({CLOSED}) if least is None else least


def _free_here(usable: Iterable[QueueInstance], host: str, name: str) -> float:
    """Return how much of a consumable (or :data:`SLOTS`) queue instances have free on a host."""
    own, shared = 0.0, []
    for place in usable:
        if place.host == host:
            amount = float(place.free) if name == SLOTS else place.resources.get(name, 0.0)
            own += amount
            # Slots are the queue's own unless Grid Engine says otherwise, other resources are not.
            if place.levels.get(name, "q" if name == SLOTS else "h") != "q":
                shared.append(amount)
    # Amounts of their own add up, within the limit that all queue instances of the host share.
    return min(own, max(shared)) if shared else own


def free(
    places: Collection[QueueInstance], name: str, queue: str = "", *, idle: bool = False
) -> tuple[float, float]:
    """Return how much of a consumable (or :data:`SLOTS`) is free: in total, and on the best host.

    The queue instances of a host share what is set for the host, and all hosts share what is set
    for the cluster, so each amount counts once.

    :param queue: count only this queue, written as in :attr:`Requirements.queue`.
    :param idle: count each core once, even if several queues of a host have slots for it. Without
        this, the result is what Grid Engine would give to jobs.
    """
    want = Requirements(queue=queue)
    usable = [place for place in places if want.may_use(place)]
    hosts = {place.host: _free_here(usable, place.host, name) for place in usable}
    if idle and name == SLOTS:
        for host in hosts:
            cores = idle_cores([place for place in places if place.host == host])
            hosts[host] = min(hosts[host], cores)
    cluster = min(
        (place.resources[name] for place in usable if place.levels.get(name) == "g"),
        default=math.inf,
    )
    return min(sum(hosts.values()), cluster), min(max(hosts.values(), default=0.0), cluster)


def idle_cores(here: Collection[QueueInstance]) -> float:
    """Return how many of a host's cores its jobs leave; infinite if that is not known.

    :param here: all queue instances of the host.
    """
    cores = max(place.cores for place in here)
    if not cores:
        return math.inf
    # If a single queue has more slots than the host has cores, that is the site's intention.
    cores = max(cores, *(place.slots for place in here))
    return float(max(cores - sum(place.used for place in here), 0))


def most_slots(places: Collection[QueueInstance]) -> float:
    """Return how many slots the largest host has, in all its queues."""
    hosts = {place.host for place in places}
    return max(float(sum(place.slots for place in places if place.host == host)) for host in hosts)


def parse_queue(xml: bytes) -> list[int]:
    """Return the numbers of all waiting jobs, in the scheduler's order (``qstat -s p -xml``).

    :raises AnswerError: when the XML is not a job list.
    """
    waiting = parse_tree(xml).find("job_info")
    if waiting is None:
        raise AnswerError("qstat did not print a job list")
    numbers = [entry.findtext("JB_job_number", "") for entry in waiting.iterfind("job_list")]
    return list(dict.fromkeys(int(number) for number in numbers if number.isdecimal()))
