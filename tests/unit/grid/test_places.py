# SPDX-License-Identifier: BSD-3-Clause
"""Which resources are free in a queue instance, and which resources a job would lack there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridhub.grid.details import parse_details
from gridhub.grid.engine import AnswerError
from gridhub.grid.places import (
    CLOSED,
    SLOTS,
    QueueInstance,
    Requirements,
    free,
    most_slots,
    parse_places,
    parse_queue,
    unavailable_resources,
)
from recorded import GB, Recorded


@pytest.mark.parametrize(
    ("words", "free"),
    [
        ("<slots_used>1</slots_used>", 3),
        ("<slots_used>1</slots_used><slots_resv>2</slots_resv>", 1),
        ("<slots_used>3</slots_used><slots_resv>2</slots_resv>", 0),
        # The host's limit leaves fewer slots than are free in the queue.
        ("<slots_used>1</slots_used><resource name='slots'>2</resource>", 2),
        ("<slots_used>1</slots_used><resource name='slots'>N/A</resource>", 3),
        ("<slots_used>1</slots_used><resource name='slots'>infinity</resource>", 3),
    ],
)
def test_used_and_reserved_slots_are_not_free(words: str, free: int) -> None:
    queue = f"<name>all.q@exec1</name><slots_total>4</slots_total>{words}"
    xml = f"<job_info><queue_info><Queue-List>{queue}</Queue-List></queue_info></job_info>"
    assert parse_places(xml.encode())[0].free == free


def test_the_tasks_of_an_array_count_as_one_waiting_job() -> None:
    jobs = "".join(
        f"<job_list><JB_job_number>{number}</JB_job_number></job_list>" for number in (7, 9, 9, 8)
    )
    xml = f"<job_info><queue_info/><job_info>{jobs}</job_info></job_info>"
    assert parse_queue(xml.encode()) == [7, 9, 8]


def test_queue_instances_are_read_with_their_free_resources(recorded: Recorded) -> None:
    assert parse_places(recorded("places.xml").encode()) == [
        QueueInstance(
            "all.q",
            "exec1",
            4,
            0,
            False,
            {"h_vmem": 4 * GB, "slots": 0.0},
            {"h_vmem": "h", "slots": "q"},
            used=4,
        ),
        QueueInstance(
            "all.q",
            "exec2",
            4,
            2,
            True,
            {"h_vmem": 6 * GB, "gpu": 0.0, "slots": 2.0},
            {"h_vmem": "h", "gpu": "h", "slots": "q"},
            used=2,
        ),
    ]


def test_waiting_jobs_keep_their_order(recorded: Recorded) -> None:
    assert parse_queue(recorded("waiting.xml").encode()) == [15, 16]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_an_answer_error(data: bytes) -> None:
    for parse in (parse_details, parse_places, parse_queue):
        with pytest.raises(AnswerError):
            parse(data)


FULL = QueueInstance("all.q", "exec1", 4, 0, True, {"h_vmem": 4 * GB})


ROOMY = QueueInstance(
    "all.q", "exec2", 4, 2, True, {"h_vmem": 6 * GB, "gpu": 1.0, "s_vmem": math.inf}
)


@pytest.mark.parametrize(
    ("requirements", "unavailable"),
    [
        (Requirements(1, {"h_vmem": GB, "gpu": 0}), set()),
        (Requirements(2, {"h_vmem": 6 * GB, "gpu": 1}), set()),
        (Requirements(4, {"h_vmem": GB}), {SLOTS}),
        (Requirements(1, {"h_vmem": 7 * GB}), {"h_vmem"}),
        (Requirements(1, {"h_vmem": GB, "gpu": 2}), {"gpu"}),
        (Requirements(3, {"h_vmem": 7 * GB, "gpu": 2}), {SLOTS, "h_vmem", "gpu"}),
        (Requirements(1, {"fpga": 1}), {"fpga"}),
        (Requirements(1, {"s_vmem": 99 * GB, "gpu": 1}), set()),
        (Requirements(1, {"s_vmem": 99 * GB, "gpu": 2}), {"gpu"}),
        (Requirements(1, {}, queue="other.q"), {CLOSED}),
        (Requirements(1, {}, queue="all.q"), set()),
        (Requirements(1, {}, queue="all.q@exec2"), set()),
        (Requirements(1, {}, queue="all.q@exec1"), {SLOTS}),
        (Requirements(1, {}, queue="all.q@exec3"), {CLOSED}),
        (Requirements(1, {}, queue="all.q@@workers"), set()),
    ],
)
def test_unavailable_resources_are_named(requirements: Requirements, unavailable: set[str]) -> None:
    assert unavailable_resources(requirements, [FULL, ROOMY]) == unavailable


def test_a_queue_that_the_site_leaves_out_counts_only_for_sessions_that_name_it() -> None:
    others = replace(ROOMY, queue="prod.q", is_offered=False)
    assert unavailable_resources(Requirements(), [FULL, others]) == {SLOTS}
    assert unavailable_resources(Requirements(queue="prod.q"), [FULL, others]) == set()
    assert free([FULL, others], SLOTS) == (0, 0)


@pytest.mark.parametrize(
    ("queue", "is_included"),
    [
        ("all.q", True),
        ("all*", True),
        ("*@exec2", True),
        ("all.q@exec*", True),
        ("all.q@@workers", True),
        ("web.q", False),
        ("all.q@exec1", False),
    ],
)
def test_patterns_of_queues_are_read_as_qsub_does(queue: str, is_included: bool) -> None:
    assert ROOMY.matches(queue) is is_included


def test_a_full_queue_instance_is_preferred_to_one_without_the_resource() -> None:
    full, without = replace(ROOMY, free=0), replace(ROOMY, resources={})
    for places in ([full, without], [without, full]):
        assert unavailable_resources(Requirements(1, {"gpu": 1.0}), places) == {SLOTS}


def test_a_closed_queue_instance_has_nothing_free() -> None:
    closed = replace(ROOMY, is_open=False)
    assert unavailable_resources(Requirements(1), [FULL, closed]) == {SLOTS}
    assert unavailable_resources(Requirements(1), [closed]) == {CLOSED}
    assert unavailable_resources(Requirements(1), []) == {CLOSED}


@given(
    st.builds(
        Requirements,
        st.integers(1, 8),
        st.dictionaries(st.sampled_from(["h_vmem", "gpu"]), st.floats(0, 9), max_size=2),
    ),
    st.lists(
        st.builds(
            QueueInstance,
            st.just("all.q"),
            st.just("h"),
            st.integers(0, 8),
            st.integers(0, 8),
            st.booleans(),
            st.dictionaries(st.sampled_from(["h_vmem", "gpu"]), st.floats(0, 9), max_size=2),
        ),
        max_size=5,
    ),
)
def test_nothing_is_unavailable_exactly_if_one_queue_instance_has_everything(
    requirements: Requirements, places: list[QueueInstance]
) -> None:
    fitting = [
        place
        for place in places
        if place.is_open
        and all(place.resources.get(n, 0) >= a for n, a in requirements.resources.items())
    ]
    # All are on one host, so their slots add up.
    fits = bool(fitting) and sum(place.free for place in fitting) >= requirements.slots
    assert (unavailable_resources(requirements, places) == frozenset()) is fits


def test_free_resources_count_each_host_once_and_only_open_queue_instances() -> None:
    shared = replace(ROOMY, queue="other.q", free=1)
    closed = replace(ROOMY, host="exec3", is_open=False)
    places = [FULL, ROOMY, shared, closed]
    assert free(places, SLOTS) == (3, 3)
    assert free(places, "h_vmem") == (10 * GB, 6 * GB)
    assert free(places, "gpu") == (1, 1)
    assert free(places, "s_vmem") == (math.inf, math.inf)
    assert free([closed], "gpu") == (0, 0)
    assert free(places, SLOTS, "other.q") == (1, 1)
    assert free(places, SLOTS, "all.q@exec1") == (0, 0)


def two_queues(free_in: tuple[int, int], **changes: object) -> list[QueueInstance]:
    """Return two queues of one host with four cores; each has four slots."""
    return [
        replace(
            QueueInstance(queue, "exec1", 4, now, True, {}, {"slots": "q"}, used=4 - now, cores=4),
            **changes,  # type: ignore[arg-type]
        )
        for queue, now in zip(("all.q", "second.q"), free_in, strict=True)
    ]


class TestTwoQueuesOfAHost:
    """With 8.1.9, a job with ``-pe smp 5`` got three slots of one queue and two of another."""

    def test_a_core_counts_once_although_both_queues_have_slots_for_it(self) -> None:
        for places, idle in (
            (two_queues((4, 4)), 4),
            (two_queues((3, 4)), 3),
            (two_queues((3, 3)), 2),
            (two_queues((0, 4)), 0),
        ):
            assert free(places, SLOTS, idle=True) == (idle, idle)
        # If the number of cores is not known, only Grid Engine's slots count.
        assert free(two_queues((3, 4), cores=0), SLOTS, idle=True) == (7, 7)

    def test_queues_that_divide_the_cores_add_up(self) -> None:
        places = two_queues((2, 2), slots=2, used=0)
        assert free(places, SLOTS, idle=True) == free(places, SLOTS) == (4, 4)
        assert unavailable_resources(Requirements(4), places) == frozenset()
        assert unavailable_resources(Requirements(5), places) == {SLOTS}
        assert unavailable_resources(Requirements(3, queue="all.q"), places) == {SLOTS}
        assert most_slots(places) == 4

    def test_what_grid_engine_would_give_counts_for_a_start(self) -> None:
        places = two_queues((0, 4))
        assert free(places, SLOTS) == (4, 4)
        assert unavailable_resources(Requirements(4), places) == frozenset()

    def test_a_limit_of_the_host_counts_once(self) -> None:
        places = two_queues((2, 2), levels={"slots": "h"}, resources={"slots": 2.0})
        assert free(places, SLOTS) == (2, 2)
        assert unavailable_resources(Requirements(3), places) == {SLOTS}

    def test_a_closed_queue_has_nothing_free_but_its_jobs_use_cores(self) -> None:
        first, second = two_queues((1, 4))
        assert free([replace(first, is_open=False), second], SLOTS, idle=True) == (1, 1)
        # The programs of a suspended queue do not run.
        assert free([replace(first, is_open=False, used=0), second], SLOTS, idle=True) == (4, 4)

    @pytest.mark.parametrize(
        ("letters", "used"), [("S", 0), ("s", 0), ("C", 0), ("d", 2), ("a", 2)]
    )
    def test_the_slots_of_a_suspended_queue_are_not_in_use(self, letters: str, used: int) -> None:
        queue = (
            "<name>all.q@exec1</name><slots_total>4</slots_total><slots_used>2</slots_used>"
            f"<state>{letters}</state><resource name='num_proc' type='hl'>4</resource>"
        )
        xml = f"<job_info><queue_info><Queue-List>{queue}</Queue-List></queue_info></job_info>"
        (place,) = parse_places(xml.encode())
        assert (place.used, place.cores, place.is_open) == (used, 4, False)
        assert "num_proc" not in place.resources


def test_what_the_whole_cluster_has_counts_once() -> None:
    licence = {"levels": {"licence": "g"}, "resources": {"licence": 5.0}}
    places = [replace(ROOMY, host=f"exec{n}", **licence) for n in range(3)]
    assert free(places, "licence") == (5, 5)
    # A host may have less than that.
    places[0] = replace(ROOMY, levels={"licence": "h"}, resources={"licence": 2.0})
    assert free(places[:2], "licence") == (5, 5)


def test_what_belongs_to_a_queue_adds_up() -> None:
    own = {"levels": {"gpu": "q"}, "resources": {"gpu": 1.0}}
    assert free([replace(ROOMY, queue=name, **own) for name in ("a.q", "b.q")], "gpu") == (2, 2)
