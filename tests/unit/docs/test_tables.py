# SPDX-License-Identifier: BSD-3-Clause
"""The generated parts of the documentation are up to date."""

from __future__ import annotations

from pathlib import Path

import doc_tables
import pytest

from folders import ROOT


@pytest.mark.parametrize("path", doc_tables.pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_up_to_date(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert page == doc_tables.render(path, page), "run `make docs-tables`"


def test_each_role_with_variables_has_its_table() -> None:
    for spec in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        role = spec.parts[-3]
        if role != "validate":  # its entry points take what other roles declare
            readme = (spec.parents[1] / "README.md").read_text(encoding="utf-8")
            assert f"<!-- variables: {role} main" in readme


def row(*names: str) -> str:
    return f"| <!-- {' '.join(names)} --> old | What to do. |\n"


def complete() -> list[str]:
    return [
        name
        for name in doc_tables.sentences()
        if name.partition(".")[0] in doc_tables.COMPLETE and name not in doc_tables.PARTS
    ]


def test_a_message_gets_the_first_of_its_sentences() -> None:
    page = doc_tables.messages(row("ended.memory", *complete()))
    assert page.endswith(
        " --> Your last session, job …, was ended because its programs together used more than "
        "its memory: … of …. | What to do. |\n"
    )


def test_a_sentence_without_a_meaning_is_an_error() -> None:
    with pytest.raises(doc_tables.TableError, match=r"says nothing about ended\.memory$"):
        doc_tables.messages(row(*(name for name in complete() if name != "ended.memory")))


def test_a_name_without_a_sentence_is_an_error() -> None:
    with pytest.raises(doc_tables.TableError, match=r"has no ended\.gone"):
        doc_tables.messages(row("ended.gone", *complete()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("One. Two.", "One."),
        ("{a}: {b}", "…: …"),
        ("Full ({reason}: {path}). Log in.", "Full (…: …)."),
        ("a | b", r"a \| b"),
    ],
)
def test_a_cell_has_the_beginning_of_a_sentence(text: str, shown: str) -> None:
    assert doc_tables.shown(text) == shown


def test_a_description_becomes_markdown() -> None:
    text = "Like C(([a-z]+)@x) and O(a_b); see docs/menu.md#presets."
    expected = "Like `([a-z]+)@x` and `a_b`; see [Presets](../docs/menu.md#presets)."
    assert doc_tables.linked(text, ROOT / "roles/README.md") == expected


@pytest.mark.parametrize("place", ["docs/none.md", "docs/menu.md#none"])
def test_a_description_that_names_no_page_is_an_error(place: str) -> None:
    with pytest.raises(doc_tables.TableError, match=place):
        doc_tables.linked(f"See {place}.", ROOT / "README.md")


@pytest.mark.parametrize(
    ("option", "cell"),
    [
        ({"required": True}, "required"),
        ({"default": ""}, "none"),
        ({"default": []}, "none"),
        ({"default": 0}, "`0`"),
        ({"default": False}, "`false`"),
        ({"default": [1, 2]}, "`[1, 2]`"),
        ({"default": "{{ a }}"}, ""),
        ({}, ""),
    ],
)
def test_a_default_is_shown_if_it_is_short(option: dict[str, object], cell: str) -> None:
    assert doc_tables.default_of(option) == cell
