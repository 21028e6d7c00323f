# SPDX-License-Identifier: BSD-3-Clause
"""The commands in the documentation are tried by a test, or say why not; what they name exists.

The comment before a block of commands is one of

- ``<!-- run by: FILE -->``: this test takes the block from the page and runs it;
- ``<!-- tried by: FILE FILE::TEST … -->``: these tests run the same commands;
- ``<!-- not tried: REASON -->``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from doc_pages import BLOCKS, PAGES, SHELL, Block
from folders import ROOT

RUNNER = "tests/playbooks/test_documented_commands.py"
#: The folders with code.
FOLDERS = (
    *("bench", "files", "inventories", "molecule", "playbooks", "plugins", "roles", "tests"),
    "tools",
)
LANGUAGES = {"shell", "text", "yaml", "ini", "python"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_each_block_names_its_language(block: Block) -> None:
    assert block.language in LANGUAGES


def source_of_tests(block: Block) -> str:
    """Return the source of the tests that a block names."""
    kind, _, names = block.comment.partition(": ")
    assert kind == "tried by"
    source = ""
    for name in names.split():
        file, _, test = name.partition("::")
        source += (ROOT / file).read_text(encoding="utf-8")
        defined = {getattr(node, "name", "") for node in ast.walk(ast.parse(source))}
        assert not test or test in defined, f"{file} has no {test}"
    return source


def heading_of(block: Block) -> str:
    """Return the heading above a block."""
    before = block.page.read_text(encoding="utf-8").splitlines()[: block.line]
    return [line.lstrip("# ") for line in before if re.match(r"#+ ", line)][-1]


def key_of(command: str) -> str:
    """Return the part of a command by which a test that runs it can be recognized."""
    if found := re.search(r"\bplaybooks/(\w+\.yml)|\bgridhub\.gridhub\.(\w+)", command):
        return found[1] or found[2]
    if found := re.search(r"/(\w+\.py)\b", command):
        return found[1]
    return command.split()[0].split("/")[-1]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_each_block_of_commands_is_tried_or_says_why_not(block: Block) -> None:
    kind, _, rest = block.comment.partition(": ")
    assert kind in ("run by", "tried by", "not tried"), f"{block.name} has no comment before it"
    if kind == "run by":
        assert rest == RUNNER
    elif kind == "not tried":
        assert len(rest.split()) >= 3, "a reason is a sentence"
    else:
        source = source_of_tests(block)
        if f'recipe("{heading_of(block)}")' in source:  # the test reads it from this page
            return
        for command in block.commands():
            if not command.startswith("export "):
                assert key_of(command) in source, f"{rest} does not run {command}"


#: Words in capitals stand for what a site has; `mysite` and the like are a site's own.
PLACEHOLDER = re.compile(r"[A-Z]{2,}|mysite|…|\*|\{")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_playbooks_and_files_that_a_page_names_exist(page: Path) -> None:
    folders = (
        "bench docs files inventories molecule playbooks plugins requirements roles tests tools"
    )
    begin = folders.replace(" ", "|")
    # Not in a link, whose target MkDocs checks, and not in the middle of another path.
    for name in re.findall(rf"(?<![\w/.(-])((?:{begin})/[\w./*{{}}…-]+)", text_of(page)):
        path = name.rstrip(".")
        if PLACEHOLDER.search(path):
            assert any(ROOT.glob(path)) or "*" not in path, path
            continue
        places = (ROOT, page.parent, *ROOT.glob("roles/*"))
        assert any((place / path).exists() for place in places), f"there is no {path}"


def targets() -> set[str]:
    """Return the targets of the Makefile; a line may have several."""
    lines = re.findall(r"^([a-z_ -]+):(?!=)", text_of(ROOT / "Makefile"), re.MULTILINE)
    return {target for line in lines for target in line.split()}


TARGETS = targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_targets_of_make_that_a_page_names_exist(page: Path) -> None:
    in_code = "\n".join(re.findall(r"`([^`\n]+)`", text_of(page)))
    commands = [command for block in SHELL if block.page == page for command in block.commands()]
    for each in re.findall(r"\bmake ((?:[a-z_-]+ ?)+)", "\n".join([in_code, *commands])):
        target = each.split()[0]
        assert target in TARGETS, f"make {target}"


def declared() -> set[str]:
    """Return the variables of all roles and playbooks."""
    found: set[str] = set()
    for file in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(text_of(file))["argument_specs"].values():
            found |= set(entry.get("options", {}))
    for folder in ("playbooks/*.yml", "roles/*/tasks/*.yml"):
        for file in ROOT.glob(folder):
            found |= set(re.findall(r"\b[a-z]\w*_\w+\b", text_of(file)))
    return found


VARIABLES = declared()
ROLES = "|".join(path.name for path in (ROOT / "roles").iterdir())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_variables_that_a_page_names_exist(page: Path) -> None:
    named = set(re.findall(rf"`((?:{ROLES})_[a-z0-9_]+)\b(?!\()", text_of(page)))
    for block in BLOCKS:
        if block.page != page:
            continue
        if block.language == "yaml":
            named |= set(re.findall(rf"^#? ?((?:{ROLES})_[a-z0-9_]+):", block.text, re.MULTILINE))
        for command in block.commands() if block.language == "shell" else ():
            named |= set(re.findall(r"-e (\w+)=", command))
            named |= set(re.findall(r'"(\w+)":', command))
    assert not named - VARIABLES - NO_VARIABLES


SOURCES = sorted(
    path
    for folder in [
        "bench",
        "files",
        "inventories",
        "playbooks",
        "plugins",
        "roles",
        "tests",
        "tools",
    ]
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yml", ".sh", ".j2", ".json", ".toml") and "docs" not in path.parts
)


def test_the_pages_and_sections_that_the_code_names_exist() -> None:
    found = 0
    for path in SOURCES:
        text = text_of(path)
        for page, heading in re.findall(r'\b(docs/[\w/-]+\.md)(?:, "([^"\n]+)")?', text):
            found += 1
            headings = re.findall(r"^#+ (.+)$", text_of(ROOT / page), re.MULTILINE)
            assert not heading or heading in [each.replace("`", "") for each in headings], (
                f"{path}: {page} has no section {heading!r}"
            )
    assert found > 50


#: What only looks like a variable of a role: a group of hosts, and what a job has in its context.
NO_VARIABLES = {"sge_exec_unmanaged", "jupyterhub_hub", "jupyterhub_user", "jupyterhub_server"}
