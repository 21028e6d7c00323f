"""The sentences people meet: all in one file, and a site's own words in their place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sge_words
from sge_words import WordsError, placeholders, read_own, with_site

OWN = {"waiting.queued": "Job {job} waits.", "page.title": "Sessions"}


def test_every_sentence_of_ours_can_be_filled_in() -> None:
    for name, text in read_own().items():
        told = dict.fromkeys(placeholders(text), "x")
        assert "{" not in text.format(**told), name


def test_a_sites_words_take_the_place_of_ours() -> None:
    words = with_site(OWN, {"waiting.queued": "Auftrag {job} wartet."})
    assert words == {"waiting.queued": "Auftrag {job} wartet.", "page.title": "Sessions"}


def test_a_site_may_leave_out_what_a_sentence_tells() -> None:
    assert with_site(OWN, {"waiting.queued": "Please wait."})["waiting.queued"] == "Please wait."


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ({"waiting.nothing": "x"}, "waiting.nothing: there is no such sentence"),
        ({"waiting.queued": "{host} waits"}, "waiting.queued: {host} is not told here; {job}"),
        ({"page.title": "{job}"}, "{job} is not told here; this sentence has no name in braces"),
        ({"waiting.queued": "{job.__class__}"}, "{job.__class__} is not a plain name"),
        ({"waiting.queued": "{0}"}, "{0} is not a plain name"),
        ({"waiting.queued": "{job!r}"}, "{job} is not a plain name"),
        ({"waiting.queued": "{job:>9999999}"}, "{job} is not a plain name"),
        ({"waiting.queued": "{job"}, "waiting.queued: expected '}'"),
        ({"waiting.queued": " "}, "the words must be text"),
        ({"waiting.queued": 4}, "the words must be text, not 4"),
        (["waiting.queued"], "must be a dictionary"),
    ],
)
def test_words_that_cannot_be_used_are_refused_by_name(site: object, words: str) -> None:
    with pytest.raises(WordsError) as refused:
        with_site(OWN, site)
    assert words in str(refused.value)


def test_a_broken_file_of_the_site_costs_nobody_their_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "words.json"
    path.write_text("{", encoding="utf-8")
    monkeypatch.setattr(sge_words, "SITE_FILE", path)
    sge_words._sentences.cache_clear()
    try:
        assert "Job 4 waits" in sge_words.say("waiting.queued", job=4)
    finally:
        sge_words._sentences.cache_clear()


def test_the_checker_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, sge_words.__file__, "-"]

    def check(site: object) -> subprocess.CompletedProcess[str]:
        text = json.dumps(site)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    assert check({"waiting.queued": "Wait, {job}."}).returncode == 0
    refused = check({"waiting.queued": "{when}"})
    assert refused.returncode == 1
    assert "Change jupyterhub_words in the inventory" in refused.stderr
