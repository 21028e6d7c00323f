"""The documentation as a site, opened in a browser from a folder: it needs no hub and no server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browsing import AXE, NARROW, WIDE, OpenBrowser, problems
from cluster import ROOT

PAGES = (
    "index.html",
    "researchers/choose.html",
    "researchers/messages.html",
    "administrators/your-cluster.html",
    "administrators/comparison.html",
    "roles/jupyterhub/index.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, as ``make docs`` does; return its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=quiet, check=True, timeout=300)
    return folder


def test_the_search_finds_a_page_and_asks_no_other_host(site: Path, window: OpenBrowser) -> None:
    page = window()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.get_by_placeholder("Search").click()
    page.keyboard.type("GPUs", delay=20)
    found = page.locator(".md-search-result").get_by_role("link").first
    expect(found).to_contain_text("Threads, GPUs, memory", timeout=60_000)
    found.click()
    expect(page.get_by_role("heading", name="Threads, GPUs, memory")).to_be_visible()
    assert [url for url in asked if not url.startswith("file:")] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_is_accessible(site: Path, window: OpenBrowser, name: str) -> None:
    page = window()
    for width in (NARROW, WIDE):
        # Not on a page that is open: some colours would still be changing.
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((site / name).as_uri())
        needed = page.evaluate("document.documentElement.scrollWidth")
        assert needed <= width, f"{name} needs {needed} px of {width}"
        assert problems(page, AXE) == [], f"{name} at {width} px"
