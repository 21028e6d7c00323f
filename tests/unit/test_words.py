"""All sentences that people read are in one file, and a site can replace each sentence."""

from __future__ import annotations

import ast
import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from folders import FILES
from gridhub import words
from gridhub.broker.home import home_trouble
from gridhub.contract import STATUS_WORDS
from gridhub.grid.jobs import State
from gridhub.hub import errors
from gridhub.menu.file import parse_menu
from gridhub.menu.kinds import ChoiceError
from gridhub.words import WordsError, number_text, placeholders, read_own, with_site

CALLS = [
    (path.name, node)
    for path in sorted(FILES.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
]
#: Sentences with names that end in a computed part. Keys: the beginning of the name. Values: what
#: the computed part can be.
COMPUTED = {
    "waiting.": "|".join(each.value for each in State if each is not State.UNKNOWN)
    + "|suspended_(job|queue|rank|calendar|load)",
    "maintenance.": "ahead|today",
    "form.": "more|most|less|less_free|least",
    "error.": "|".join(errors.MESSAGES.values()),
    "start.": "error_full|error_state",
}
#: Files whose messages go to the job's log.
STARTER = ("secrets.py", "port.py")
ANYTHING = r"\w+"
#: Expressions after ``**`` in a call, and the names of the values that they pass.
PASSED = {
    "self.begins": {"date", "time"},
    "self.ends": {"date", "time"},
    "values": {"date", "time", "end_date", "end_time"},
    "self.values()": {"begin", "end"},
    "window.values()": {"begin", "end"},
}
FUNCTIONS: dict[str, set[str]] = {"text": set(), "number_text": {"number"}}
OWN = {"waiting.queued": "Job {job} waits.", "page.title": "Sessions"}


def test_every_sentence_of_ours_can_be_filled_in() -> None:
    for name, text in read_own().items():
        values = dict.fromkeys(placeholders(text), "x")
        assert "{" not in text.format(**values), name


def used() -> Iterator[tuple[str, re.Pattern[str], set[str]]]:
    """Yield each use of a sentence: its place, a pattern for its name, and its values' names."""
    for file, call in CALLS:
        if (function := call.func.id) in FUNCTIONS:
            name = call.args[0]
            if file == "words.py" and not isinstance(name, ast.Constant):
                continue  # words.py passes on the name that it is given
            names = [name.body, name.orelse] if isinstance(name, ast.IfExp) else [name]
            for each in names:
                parts = each.values if isinstance(each, ast.JoinedStr) else [each]
                pattern = ""
                for part in parts:
                    if isinstance(part, ast.Constant):
                        pattern += str(part.value)
                    else:
                        pattern += f"({COMPUTED.get(pattern, ANYTHING)})"
                values = FUNCTIONS[function].union(
                    *(
                        PASSED[ast.unparse(each.value)] if each.arg is None else {each.arg}
                        for each in call.keywords
                    )
                )
                one = "(_one)?" if function == "number_text" else ""
                yield f"{file}:{call.lineno}", re.compile(pattern + one), values


def test_every_sentence_that_a_module_uses_exists_and_gets_its_values() -> None:
    own = read_own()
    for place, name, values in used():
        meant = [each for each in own if name.fullmatch(each)]
        assert meant, f"{place}: there is no {name.pattern}"
        for each in meant:
            assert placeholders(own[each]) <= values, f"{place}: {each}"


def test_every_sentence_is_used_somewhere() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in FILES.glob("pages/*"))
    named = set(re.findall(r"(?:number_)?text\('([\w.]+)'", pages))
    proxy = "".join(
        path.read_text(encoding="utf-8")
        for path in (FILES.parent / "roles/proxy").rglob("*")
        if path.suffix in (".j2", ".yml")
    )
    named |= set(re.findall(r"words\['([\w.]+)'\]", proxy))
    # A session gets all sentences of its group, and uses them by their names without the group.
    session = "".join(
        path.read_text(encoding="utf-8") for path in FILES.glob("gridhub/session/*.py")
    )
    named |= {f"session.{name}" for name in re.findall(r"\"(\w+)\"", session)}
    # The names of this group are checked with the script of the status bar (test_status.py).
    named |= {f"status.{name}" for name in STATUS_WORDS}
    begun = set(re.findall(r"'(\w+\.\w*)' ~", pages))  # such as text('sessions.' ~ view.state)
    patterns = [name for _, name, _ in used()]
    unused = [
        name
        for name in read_own()
        if name.removesuffix("_one") not in named
        and not name.startswith(tuple(begun))
        and not any(pattern.fullmatch(name) for pattern in patterns)
    ]
    assert unused == []


def test_no_module_contains_sentences_for_people() -> None:
    for file, call in CALLS:
        if (
            call.func.id not in ("ChoiceError", "SessionError", "Refused", "Refusal")
            or file in STARTER
        ):
            continue  # the starter's messages go to the job's log
        for literal in [
            each for each in call.args if isinstance(each, ast.JoinedStr | ast.Constant)
        ]:
            text = ast.unparse(literal)
            # Two texts are not for people: a refusal's kind, and an objection to a request.
            for_programs = ast.unparse(call.args[0]) == "'request'" or "uid" in text
            assert " " not in text or for_programs, f"{file}:{call.lineno}: {text}"


def test_the_texts_of_http_errors_are_for_programs() -> None:
    """Sessions (starter.py), the culler (idle.py) and root (operator.py) get HTTP errors.

    People get a Refusal.
    """
    literal = {
        (path.name, ast.unparse(call.args[1]))
        for path in FILES.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "web.HTTPError"
        and isinstance(call.args[1], ast.JoinedStr | ast.Constant)
    }
    assert {file for file, _ in literal} == {"starter.py", "idle.py", "operator.py"}
    assert len(literal) == 9, literal


PROXYS_PAGE = FILES.parent / "roles/proxy/templates/page.html.j2"


@pytest.mark.parametrize(
    "path", [*sorted(FILES.glob("pages/*.html")), PROXYS_PAGE], ids=lambda path: str(path.name)
)
def test_a_page_has_no_words_of_its_own(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert not re.search(r'\blang="[^{]', page), "the language comes with the words"
    page = re.sub(r"{#.*?#}|{%.*?%}|{{.*?}}", "", page, flags=re.DOTALL)
    for text in re.findall(r'\b(?:aria-label|title|alt|placeholder)="([^"]*)"', page):
        assert not re.search(r"[^\W\d_]", text), text
    page = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
    assert re.findall(r"[^\W\d_]+", page) == []


def test_the_pages_script_has_no_words_of_its_own() -> None:
    script = (FILES / "pages/pages.js").read_text(encoding="utf-8")
    script = re.sub(r"/\*.*?\*/|//.*", "", script)
    literals = [each[1:-1] for each in re.findall(r"\"[^\"]*\"|'[^']*'|`[^`]*`", script)]
    assert len(literals) > 50, "the script's strings are found"
    # A string counts as a sentence if it has two words or begins with a capital letter.
    sentences = {each for each in literals if re.search(r"[A-Za-z] +[A-Za-z]|^[A-Z]", each)}
    assert sentences == {"use strict", "Notification"}


def test_the_number_one_has_its_own_sentence() -> None:
    assert number_text("unit.hours", 1) == "hour"
    assert number_text("unit.hours", 0) == number_text("unit.hours", 2) == "hours"
    for name in read_own():
        assert not name.endswith("_one") or name.removesuffix("_one") in read_own(), name


def test_modules_use_the_sites_words(monkeypatch: pytest.MonkeyPatch) -> None:
    site = {
        "choice.not_possible": "{label}: {value} geht nicht; {allowed}.",
        "choice.list": "waehlen Sie {values}",
        "choice.one_of": "{others} oder {last}",
        "choice.quoted": "»{text}«",
        "home.is_over_quota": "Ihr Verzeichnis {path} ist voll.",
    }
    words = with_site(read_own(), site)
    monkeypatch.setattr("gridhub.words.sentences", lambda: words)
    item = {
        "name": "memory",
        "label": "Speicher",
        "unit": "GB",
        "choices": [1, 2, 4],
        "default": 1,
        "request": {"kind": "memory", "complex": "h_vmem", "per": "job"},
    }
    menu = parse_menu(json.dumps({"items": [item]}))
    with pytest.raises(
        ChoiceError, match="^Speicher: »3« geht nicht; waehlen Sie 1, 2 oder 4 GB.$"
    ):
        menu.choose({"memory": "3"}, ())
    full = home_trouble(OSError(errno.EDQUOT, "Disk quota exceeded", "/home/x"), Path("/home"))
    assert full == "Ihr Verzeichnis /home/x ist voll."


def test_a_sites_words_replace_ours() -> None:
    words = with_site(OWN, {"waiting.queued": "Auftrag {job} wartet."})
    assert words == {"waiting.queued": "Auftrag {job} wartet.", "page.title": "Sessions"}


def test_a_site_may_leave_out_values_of_a_sentence() -> None:
    assert with_site(OWN, {"waiting.queued": "Please wait."})["waiting.queued"] == "Please wait."


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ({"waiting.nothing": "x"}, "waiting.nothing: there is no such sentence"),
        ({"waiting.queued": "{host} waits"}, "waiting.queued: {host} is not available here; {job}"),
        (
            {"page.title": "{job}"},
            "{job} is not available here; this sentence has no name in braces",
        ),
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


def test_a_broken_file_of_the_site_breaks_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "words.json"
    path.write_text("{", encoding="utf-8")
    monkeypatch.setattr("gridhub.words.SITE_FILE", path)
    words.sentences.cache_clear()
    try:
        assert "Job 4 is waiting" in words.text("waiting.queued", job=4)
    finally:
        words.sentences.cache_clear()


def test_the_checker_reports_wrong_words(tmp_path: Path) -> None:
    command = [sys.executable, FILES / "sge_check.py", "words", "-"]

    def check(site: object) -> subprocess.CompletedProcess[str]:
        text = json.dumps(site)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    assert check({"waiting.queued": "Wait, {job}."}).returncode == 0
    refused = check({"waiting.queued": "{when}"})
    assert refused.returncode == 1
    assert "Change jupyterhub_words in the inventory" in refused.stderr
