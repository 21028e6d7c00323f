# SPDX-License-Identifier: BSD-3-Clause
"""The documentation as a site: each link leads somewhere, and nothing comes from other hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from folders import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, as ``make docs`` does; return its folder."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", config, "--site-dir", folder],
        cwd=ROOT,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    loads = re.compile(
        r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//'
        r'|<link\b[^>]*\brel="(?:stylesheet|preconnect|icon|preload)"[^>]*\bhref="(?:https?:)?//'
        r'|<link\b[^>]*\bhref="(?:https?:)?//[^>]*\brel="(?:stylesheet|preconnect|icon|preload)"'
    )
    for page in pages:
        assert not loads.search(page.read_text(encoding="utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?https?:", style.read_text(encoding="utf-8")), style


def test_the_search_works_without_a_server(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="assets/iframe-worker.js"' in front
    script = (site / "search/search_index.js").read_text(encoding="utf-8")
    index = json.loads(script.removeprefix("var __index = "))
    found = [each["location"] for each in index["docs"] if "CUDA_VISIBLE_DEVICES" in each["text"]]
    assert any(each.startswith("researchers/resources.html") for each in found)


def test_each_page_can_be_read_on_a_forge(site: Path) -> None:
    """Only HTML comments are allowed beside Markdown: a forge shows other syntax as it is."""
    for page in ROOT.glob("docs/**/*.md"):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"^(!!!|\?\?\?|===|---$)|\{: |:material-", text, re.MULTILINE), page


@pytest.mark.parametrize("link", ["nowhere.md", "../menu.md#nowhere"])
def test_a_link_that_leads_nowhere_is_an_error(link: str, tmp_path: Path) -> None:
    """The settings are those of the project; only the page with the link is another one."""
    docs = tmp_path / "docs"
    (docs / "a").mkdir(parents=True)
    (docs / "a/index.md").write_text(f"# A\n\n[link]({link})\n", encoding="utf-8")
    (docs / "menu.md").write_text("# Menu\n", encoding="utf-8")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[0]
    config = tmp_path / "mkdocs.yml"
    config.write_text(re.sub(r"^hooks: .*$", "", text, flags=re.MULTILINE), encoding="utf-8")
    done = build(config, tmp_path / "site")
    assert done.returncode != 0
    assert link in done.stdout + done.stderr
