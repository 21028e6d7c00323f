"""Every query of the dashboards has an answer, and a picture of each is drawn from them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

import dashboards
import faults
from cluster import BASE_URL
from folders import ROOT
from hub_client import HubClient, wait_for
from prometheus import query, value
from sessions import CHOICE, Person

NAMES = ("administrator", "manager")

#: How much of the past the pictures show, in seconds: about as long as the tests have run.
SHOWN = 600.0


@pytest.fixture(scope="module", autouse=True)
def events(people: dict[str, Person], carol: Person) -> None:
    """Something of everything that is counted: a start, an end, a refusal, a login."""
    alice = people["alice"]
    refused = 'gridhub_refusals_total{reason="choice"}'
    before = value(refused) or 0.0
    alice.choose(**CHOICE | {"cores": 99})
    wait_for("the refusal is scraped", lambda: (value(refused) or 0.0) > before, 60)
    alice.choose(**CHOICE)
    alice.wait_until_ready(150)
    HubClient(BASE_URL, "bob").log_in("wrong")
    carol.open_lab()
    carol.run(carol.start_kernel(), "sum(range(10**7))")
    alice.stop()
    ended = 'gridhub_session_endings_total{reason="person"} > 0'
    wait_for("the end is scraped", lambda: query(ended), 60)
    used = "gridhub:used_memory_bytes:avg5m > 0"
    # The first look at the use of resources comes with a scrape, and execd has to report first.
    with suppress(AssertionError):
        wait_for("the use is scraped", lambda: query(used), 90)


@pytest.mark.parametrize("name", NAMES)
def test_every_query_has_an_answer(name: str) -> None:
    empty = []
    for panel in dashboards.panels(dashboards.load(name)):
        for target in panel["targets"]:
            one = panel | {"targets": [target]}
            if not dashboards.answers(one, SHOWN):
                empty.append(f"{panel['title']}: {target['expr']}")
    assert not empty, "\n".join(empty)
    assert not faults.down("hub")


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_drawn(name: str) -> None:
    """``make screenshots`` copies it to docs/images."""
    path: Path = ROOT / f".cache/screenshots/dashboard-{name}-1400.png"
    dashboards.picture(name, SHOWN, path)
    assert path.stat().st_size > 20_000
