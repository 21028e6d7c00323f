# SPDX-License-Identifier: BSD-3-Clause
"""The HTML form that a menu becomes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gridhub.menu.form import render_form
from gridhub.menu.kinds import ChoiceError
from gridhub.menu.menu import Menu
from gridhub.words import read_own, with_site
from menus import (
    ALL,
    ALL_WORDS,
    CORES,
    HOURS,
    LICENCE,
    MEMORY,
    PROJECT,
    RULE,
    SMALL,
    Form,
    everybody,
    menu_of,
    menus,
)

HOSTILE_WORDS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</label></form>&lt;b&gt;&amp;",
]


class TestForm:
    @pytest.mark.parametrize("words", HOSTILE_WORDS)
    def test_words_of_the_menu_are_text_and_never_html(self, words: str) -> None:
        plain = Form(render_form(menu_of(*ALL), {"gpu"}, {}))
        items = [item | {"label": words, "help": words} for item in ALL]
        form = Form(render_form(menu_of(*items), {"gpu"}, {}))
        kinds = [tag for tag, _ in form.elements if tag in ("div", "label")]
        assert kinds.count("label") == len(ALL)
        assert {tag for tag, _ in form.elements} == {tag for tag, _ in plain.elements}
        assert {name for _, found in form.elements for name in found} == {
            name for _, found in plain.elements for name in found
        }
        assert form.text.count(words) == 2 * len(ALL)

    def test_words_of_the_site_are_text_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        words = with_site(read_own(), {"unit.hours": "<b>"})
        monkeypatch.setattr("gridhub.words.sentences", lambda: words)
        html = render_form(menu_of(HOURS), (), {})
        assert "<b>" not in html
        assert "&lt;b&gt;" in html

    @given(st.text(min_size=1, max_size=50))
    def test_any_label_is_shown_as_it_is(self, label: str) -> None:
        html = render_form(menu_of(HOURS | {"label": label}), (), {})
        assume("\r" not in label and "\0" not in label)
        assert f"{label} (hours)" in Form(html).text

    def test_only_items_that_the_person_may_use_are_drawn(self, menu: Menu) -> None:
        assert 'name="gpus"' in render_form(menu, {"gpu"}, {})
        assert "gpu" not in render_form(menu, {"users"}, {})

    def test_the_last_choice_is_shown_again(self, menu: Menu) -> None:
        form = Form(render_form(menu, (), {"cores": 8, "memory": "16", "hours": 1}))
        assert form.selected() == ["8", "1"]
        assert form.named("memory")["value"] == "16"

    @pytest.mark.parametrize("last", [{}, {"cores": 7, "memory": "<b>", "hours": None, "x": 1}])
    def test_defaults_are_shown_if_there_is_no_usable_last_choice(
        self, menu: Menu, last: dict[str, object]
    ) -> None:
        form = Form(render_form(menu, (), last))
        assert form.selected() == ["1", "4"]
        assert form.named("memory")["value"] == "4"

    def test_the_browser_gets_the_limits(self, menu: Menu) -> None:
        field = Form(render_form(menu, (), {})).named("memory")
        assert (field["min"], field["max"], field["step"]) == ("2", "64", "2")
        assert [
            found["value"]
            for tag, found in Form(render_form(menu, (), {})).elements
            if tag == "option"
        ] == ["1", "2", "3", "4", "8", "1", "4", "8"]

    def test_every_field_has_a_label_and_its_description(self, menu: Menu) -> None:
        elements = Form(render_form(menu, {"gpu"}, {})).elements
        identities = [found["id"] for _, found in elements if "id" in found]
        assert len(identities) == len(set(identities))
        for _, found in elements:
            for pointer in ("for", "aria-describedby"):
                assert set((found.get(pointer) or "").split()) <= set(identities)

    def test_what_the_form_sends_is_accepted(self, menu: Menu) -> None:
        form = Form(render_form(menu, {"gpu"}, {}))
        select = ""
        for tag, found in form.elements:
            if tag == "select":
                select = found["name"] or ""
            elif tag == "option":
                item = next(item for item in menu.items if item.name == select)
                assert item.allows(item.value(found["value"]))


class TestFormErrors:
    def refused(self, menu: Menu, raw: dict[str, Any], groups: Any = ()) -> tuple[Form, str]:
        with pytest.raises(ChoiceError) as caught:
            menu.choose(raw, groups)
        html = render_form(menu, groups, raw, caught.value)
        return Form(html), str(caught.value)

    def test_the_reason_is_shown_at_the_field_with_the_entered_value(self) -> None:
        form, words = self.refused(menu_of(*ALL), {"memory": "5", "cores": "8"})
        field = form.named("memory")
        assert field["class"] == "form-control is-invalid"
        assert field["aria-invalid"] == "true"
        assert field["value"] == "5"
        described = (field["aria-describedby"] or "").split()
        texts = {found.get("id"): found.get("class") for _, found in form.elements}
        assert [texts[identity] for identity in described] == ["invalid-feedback", "form-text"]
        assert form.text.count(words) == 1
        assert form.selected() == ["8", "4"]
        assert [found for _, found in form.elements if "aria-invalid" in found] == [field]

    def test_lists_are_marked_too(self) -> None:
        form, words = self.refused(menu_of(*ALL), {"cores": "7"})
        assert form.named("cores")["class"] == "form-select is-invalid"
        assert form.selected()[0] == "1"
        assert words in form.text

    def test_a_broken_limit_keeps_the_whole_choice(self) -> None:
        menu = menu_of(*ALL, limits=[RULE])
        form, words = self.refused(menu, {"cores": "1", "memory": "64", "hours": "8"})
        assert form.named("memory")["value"] == "64"
        assert form.named("memory")["aria-invalid"] == "true"
        assert form.selected() == ["1", "8"]
        assert words in form.text

    def test_a_wrong_preset_is_reported_at_the_presets(self) -> None:
        form, words = self.refused(menu_of(*ALL, presets=[SMALL]), {"preset": "large"})
        assert form.named("preset")["aria-invalid"] == "true"
        assert words in form.text

    def test_an_error_about_no_field_marks_none(self) -> None:
        for raw in ({"disk": 1}, {"gpus": 1}):
            form, _ = self.refused(menu_of(*ALL), raw)
            assert not [found for _, found in form.elements if "aria-invalid" in found]

    def test_without_an_error_nothing_is_marked(self) -> None:
        html = render_form(menu_of(*ALL, *ALL_WORDS[:3]), {"gpu"}, {"memory": "5"})
        form = Form(html)
        assert "is-invalid" not in html
        assert not [found for _, found in form.elements if "aria-invalid" in found]
        assert form.named("memory")["value"] == "4"

    def test_every_field_has_a_place_for_the_browsers_error_message(self) -> None:
        menu = menu_of(*ALL, *ALL_WORDS[:3], presets=[SMALL])
        html = render_form(menu, {"gpu"}, {})
        for field in re.findall(r'<(?:select|input) [^>]*name="([^"]+)"[^>]*>', html):
            assert f'<div class="invalid-feedback" id="error-menu-{field}"></div>' in html
            described = Form(html).named(field)["aria-describedby"] or ""
            assert f"error-menu-{field}" in described.split()

    @pytest.mark.parametrize(
        "raw", ["x" * 100_000, "a\0b", 10**5000, -(10**5000), ["x"], None, {}], ids=range(7)
    )
    def test_a_value_that_a_field_cannot_show_is_not_shown(self, raw: object) -> None:
        for item, shown in ((MEMORY, "4"), (LICENCE, "")):
            form, _ = self.refused(menu_of(item), {item["name"]: raw})
            assert form.named(item["name"])["value"] == shown

    @given(st.text(min_size=1, max_size=60) | st.sampled_from(HOSTILE_WORDS))
    def test_refused_values_are_text_and_never_html(self, words: str) -> None:
        menu = menu_of(MEMORY, LICENCE, presets=[SMALL | {"choice": {"memory": 2}}])
        kinds = {"div", "label", "input", "select", "option", "br"}
        names = {
            "class", "for", "id", "name", "value", "selected", "type", "inputmode", "required",
            "min", "max", "step", "maxlength", "placeholder", "aria-describedby", "aria-invalid",
            "data-fills",
        }  # fmt: skip
        for field in ("memory", "licence", "preset"):
            try:
                menu.choose({field: words}, ())
            except ChoiceError as error:
                html = render_form(menu, (), {field: words}, error)
                form = Form(html)
                assert {tag for tag, _ in form.elements} <= kinds
                assert {name for _, found in form.elements for name in found} <= names
                if field != "preset" and words.isprintable():
                    assert form.named(field)["value"] == words

    @pytest.mark.parametrize("words", HOSTILE_WORDS)
    def test_words_of_options_presets_and_limits_are_text_too(self, words: str) -> None:
        def menu(words: str) -> Menu:
            options = [{"value": "", "label": words}, {"value": "a", "label": words}]
            return menu_of(
                CORES,
                PROJECT | {"options": options, "label": words},
                LICENCE | {"text": LICENCE["text"] | {"pattern": ".*"}, "help": words},  # type: ignore[operator]
                presets=[{"name": "p", "label": words, "help": words, "choice": {"project": "a"}}],
                limits=[{"rule": "cores < 8", "item": "cores", "message": words}],
            )

        plain, _ = self.refused(menu("plain words"), {"cores": 8})
        form, message = self.refused(menu(words), {"cores": 8})
        assert message == words
        assert [tag for tag, _ in form.elements] == [tag for tag, _ in plain.elements]
        assert [list(found) for _, found in form.elements] == [
            list(found) for _, found in plain.elements
        ]
        assert form.text.count(words) == plain.text.count("plain words") >= 8

    @given(menus(), st.data())
    def test_what_any_form_sends_is_accepted(self, menu: Menu, data: st.DataObject) -> None:
        # Send what a browser sends: each list's selected option, or the first option by default.
        form = Form(render_form(menu, everybody(menu), {}))
        sent: dict[str, str] = {}
        name = ""
        for tag, found in form.elements:
            if tag == "select":
                name = found["name"] or ""
            elif tag == "input":
                sent[found["name"] or ""] = found["value"] or ""
            elif tag == "option" and (name not in sent or "selected" in found):
                sent[name] = found["value"] or ""
        assert menu.choose(sent, everybody(menu)) == menu.choose({}, everybody(menu))
