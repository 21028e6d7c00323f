# SPDX-License-Identifier: BSD-3-Clause
"""Forms that a link fills in, with more or less of an item."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from jupyterhub.spawner import SpawnException

from fake_grid import job
from gridhub.grid.details import Details
from gridhub.grid.places import QueueInstance
from gridhub.menu.menu import Menu
from gridhub.spawner.form import Link
from hub_menus import HAD, INTERFACE, MEMORY, MENU, PARALLEL, QUEUE
from sge_spawner import SGESpawner
from whole_hub import Broker, Hub, Visit, known, led, page_says

pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestLinks:
    async def test_a_stale_form_is_refused_with_a_message(self, hub: Hub) -> None:
        for path in ("spawn", "stop/alice", "login"):
            answer = await hub.visit(path, body="_xsrf=old")
            assert answer.code == 403
            assert page_says(answer, "error.stale_form")

    async def test_more_and_less_are_filled_in_and_explained_at_the_field(
        self, spawner: SGESpawner
    ) -> None:
        async def form(*, more: bool, places: list[QueueInstance] | None = None) -> str:
            known(spawner.status.places, places)
            spawner.user_options = {"cores": "2", "preset": ""}  # the values that the form sends
            html = await led(spawner, Link({}, ("cores", "gpus", "?"), more=more))
            assert html.count(" autofocus") == 1
            assert "gpus" not in html, "for members only"
            return html

        more = await form(more=True)
        assert '<option value="4" selected>' in more
        assert "CPU cores: 4 instead of 2, the next larger amount" in more
        less = await form(more=False)
        assert '<option value="1" selected>' in less
        assert "CPU cores: 1 instead of 2, the next smaller amount" in less
        room = QueueInstance("all.q", "exec1", 4, 1, True)
        assert "because no worker that it may use has 2 free now" in await form(
            more=False, places=[room]
        )
        full = await form(more=False, places=[replace(room, free=0)])
        assert '<option value="2" selected>' in full
        assert "CPU cores: less than 2 would not help now" in full
        spawner.user_options = {"cores": 4}
        assert "you may not have more than 4" in await led(spawner, Link({}, ("cores",), more=True))
        assert "changed" not in await spawner.get_options_form(), "only for this link"

    async def test_two_links_opened_at_once_each_fill_in_their_own_form(
        self, visit: Visit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        both = asyncio.Barrier(2)
        account = SGESpawner._account

        async def wait_for_both(spawner: SGESpawner, menu: Menu) -> tuple[str, frozenset[str]]:
            await both.wait()
            return await account(spawner, menu)

        monkeypatch.setattr(SGESpawner, "_account", wait_for_both)
        links = [visit(f"spawn?cores={cores}") for cores in (2, 4)]
        first, second = await asyncio.wait_for(asyncio.gather(*links), 10)
        assert '<option value="2" selected>' in first.body.decode()
        assert '<option value="4" selected>' in second.body.decode()

    async def test_the_unavailable_items_of_a_waiting_session_are_named(
        self, spawner: SGESpawner
    ) -> None:
        spawner.asked = HAD
        known(spawner.status.places, [QueueInstance("all.q", "exec1", 4, 0, True, {"h_vmem": 9e9})])
        assert spawner.unavailable == ("cores", "gpus")
        known(spawner.status.places, None)
        assert spawner.unavailable == ()

    @pytest.mark.parametrize(
        ("cores", "reasons", "items"),
        [
            (
                2,
                'queue "exec2" because it offers only hc:h_vmem=1.000G\nonly offers 0 slots',
                "memory",
            ),
            (2, 'queue instance "all.q@exec1" dropped because it is full', "cores"),
            (2, "because it only offers 0 slots", "cores"),
            (2, 'exceeds limit "alice/////" in rule "mine/1"\nonly offers 0 slots', ""),
            (2, "because it offers only hc:h_vmem=1.000G due to a reservation", ""),
            (2, "", ""),
            # A single slot is always on a single host, whatever the parallel environment.
            (1, "", "gpus"),
        ],
    )
    async def test_if_a_session_may_span_workers_the_scheduler_names_what_is_unavailable(
        self,
        cores: int,
        reasons: str,
        items: str,
        spawner: SGESpawner,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        chosen = HAD[0].model_copy(update={"value": cores, "total": cores})
        spawner.asked = (chosen, *HAD[1:], PARALLEL)
        monkeypatch.setattr(spawner, "session", "5e55" * 8)
        monkeypatch.setattr(spawner, "_job", lambda: job(letters="qw", number=7))
        known(spawner.status.places, [QueueInstance("all.q", "exec1", 4, 1, True, {"h_vmem": 9e9})])
        known(spawner.status.details, {7: Details(7, "alice", reasons=tuple(reasons.splitlines()))})
        assert spawner.unavailable == tuple(items.split())

    async def test_less_is_what_the_chosen_queue_has_free(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        menu_file.write_text(json.dumps({"items": [MENU[0], QUEUE]}), encoding="utf-8")
        known(
            spawner.status.places,
            [
                QueueInstance("all.q", "exec1", 4, 4, True),
                QueueInstance("big.q", "exec2", 4, 1, True),
            ],
        )
        for queue, cores in (("big.q", 1), ("", 2)):
            spawner.user_options = {"cores": 4, "queue": queue}
            form = await led(spawner, Link({}, ("cores",)))
            assert f"CPU cores: {cores} instead of 4" in form

    async def test_less_of_one_item_may_require_less_of_another_first(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        limit = {"rule": "memory <= 4 * cores", "item": "memory", "message": "Less."}
        menu_file.write_text(
            json.dumps({"items": [MENU[0], MEMORY], "limits": [limit]}), encoding="utf-8"
        )
        room = QueueInstance("all.q", "exec1", 4, 1, True, {"h_vmem": 5 * 2.0**30})
        known(spawner.status.places, [room])
        spawner.user_options = {"cores": 2, "memory": 8}
        form = await led(spawner, Link({}, ("cores", "memory")))
        assert "CPU cores: 1 instead of 2, because" in form
        assert "Memory: 4 GB instead of 8 GB, because" in form
        assert re.search(r'autofocus="" id="menu-cores"', form), "the first on the form"

    async def test_a_link_that_breaks_a_rule_is_filled_in_and_marked(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        limit = {"rule": "cores < 4", "item": "cores", "message": "Fewer."}
        menu_file.write_text(json.dumps({"items": MENU, "limits": [limit]}), encoding="utf-8")
        form = await led(spawner, Link({"cores": "4"}))
        assert '<option value="4" selected>' in form
        assert 'id="error-menu-cores">Fewer.' in form

    async def test_a_refusal_is_gone_once_a_form_has_shown_it(self, spawner: SGESpawner) -> None:
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        assert "is-invalid" in await spawner.get_options_form()
        assert "is-invalid" not in await spawner.get_options_form()
        with pytest.raises(SpawnException):
            await spawner._run_apply_user_options({"cores": 99})
        await spawner._run_apply_user_options({"cores": 2})
        assert "is-invalid" not in await spawner.get_options_form()

    async def test_a_preset_is_accepted_and_its_values_are_remembered(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        presets = [{"name": "large", "label": "Large", "choice": {"cores": 4}}]
        menu_file.write_text(json.dumps({"items": MENU, "presets": presets}), encoding="utf-8")
        await spawner._run_apply_user_options({"preset": "large", "cores": "1"})
        assert spawner.user_options == {"cores": 4}

    async def test_the_interface_sets_where_the_session_opens(
        self, spawner: SGESpawner, menu_file: Path
    ) -> None:
        menu_file.write_text(json.dumps({"items": [*MENU, INTERFACE]}), encoding="utf-8")
        for interface, url in (("notebook", "/tree"), ("lab", "/lab")):
            await spawner._run_apply_user_options({"interface": interface})
            assert spawner.get_env()["JUPYTERHUB_DEFAULT_URL"] == url
        menu_file.write_text(json.dumps({"items": MENU}), encoding="utf-8")
        await spawner._run_apply_user_options({})
        assert "JUPYTERHUB_DEFAULT_URL" not in spawner.get_env()

    async def test_a_new_menu_needs_no_restart(self, spawner: SGESpawner, menu_file: Path) -> None:
        menu_file.write_text(
            json.dumps({"items": [MENU[0] | {"choices": [1, 64]}]}), encoding="utf-8"
        )
        await spawner._run_apply_user_options({"cores": 64})
        assert spawner.user_options == {"cores": 64}

    async def test_a_broken_menu_is_reported_without_details(
        self, hub: Hub, spawner: SGESpawner, menu_file: Path, token: str, broker: Broker
    ) -> None:
        menu_file.write_text("secret words", encoding="utf-8")
        answer = await hub.ask("users/alice/server", token, {})
        assert answer.code == 500
        assert b"cannot be read" in answer.body
        assert b"secret" not in answer.body
        assert str(menu_file).encode() not in answer.body
        assert not broker.requests

    async def test_a_user_without_an_account_sees_why(self, hub: Hub, broker: Broker) -> None:
        nobody = hub.person("no-such-account")
        with pytest.raises(SpawnException, match="no account no-such-account"):
            await nobody.spawners[""]._run_apply_user_options({})
