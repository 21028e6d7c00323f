"""Widgets of a kernel in an environment of one's own are drawn, in JupyterLab and in Notebook.

The person's environment has ipywidgets of her own, of version 7 or 8; the front end is the site's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from browsing import SHOTS, choose, log_in
from hub_client import HubClient
from wanda import NAME, PASSWORD, as_wanda, at_home, recipe, wanda

__all__ = ["at_home", "wanda"]  # fixtures

CELL = """\
import ipywidgets
from tqdm.notebook import tqdm
print(ipywidgets.__version__)
slider = ipywidgets.IntSlider(value=7, max=20, description='Cats')
display(slider)
for _ in tqdm(range(3), desc='Dogs'): pass
"""


@pytest.fixture
def enter(wanda: HubClient, window: Callable[..., Page], at_home: None) -> Callable[..., Page]:
    """Start a session in the browser; return its page."""

    def start(**amounts: object) -> Page:
        page = window()
        log_in(page, NAME, PASSWORD, goal="/hub/spawn")
        choose(page, **({"cores": 1, "memory": 2, "run_time": 1} | amounts))
        page.wait_for_url(re.compile(f"/user/{NAME}/lab"), timeout=180_000)
        return page

    return start


def run_cell(page: Page, kernel: str) -> None:
    """Run the cell with the widgets in a new notebook of a kernel."""
    page.goto(f"/user/{NAME}/lab?reset")
    card = page.locator(".jp-LauncherCard[data-category=Notebook]").filter(has_text=kernel)
    card.first.click(timeout=120_000)
    # Until the kernel is ready, JupyterLab redraws the new notebook and loses typed text.
    expect(page.locator("#jp-bottom-panel")).to_contain_text("| Idle", timeout=120_000)
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    cell.click()
    page.keyboard.insert_text(CELL)
    expect(cell).to_contain_text("Dogs")
    page.keyboard.press("Shift+Enter")


def expect_widgets(page: Page, version: str) -> None:
    """Expect a slider that works, and a bar of tqdm that has ended."""
    output = page.locator(".jp-OutputArea-output pre").first
    expect(output).to_have_text(re.compile(rf"^{re.escape(version)}\."), timeout=120_000)
    slider = page.locator(".jupyter-widgets.widget-slider, .jupyter-widgets.widget-inline-hbox")
    expect(slider.first).to_contain_text("Cats", timeout=60_000)
    expect(slider.first.locator(".widget-readout")).to_have_text("7")
    bar = page.locator(".jupyter-widgets.widget-hbox").filter(has_text="Dogs")
    expect(bar.first).to_contain_text("3/3", timeout=60_000)
    expect(bar.first.locator(".progress, progress")).to_be_visible()
    assert "Error displaying widget" not in (page.locator(".jp-Notebook").text_content() or "")


@pytest.mark.parametrize(("version", "more"), [("8", ""), ("7", "'ipywidgets<8'")], ids=["8", "7"])
def test_a_kernel_of_ones_own_shows_its_widgets(
    enter: Callable[..., Page], version: str, more: str
) -> None:
    as_wanda(recipe("A kernel of your own, with venv"))
    as_wanda(f"own/bin/pip install --quiet ipywidgets tqdm {more}")
    page = enter()
    run_cell(page, "My Python")
    expect_widgets(page, version)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"widgets-{version}.png")
    # The slider reaches the kernel: its arrow key changes the value there.
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".jupyter-widgets .widget-readout").first).to_have_text("8")
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").last
    cell.click()
    page.keyboard.insert_text("print('the kernel has', slider.value)")
    page.keyboard.press("Shift+Enter")
    expect(page.get_by_text("the kernel has 8", exact=True)).to_be_visible(timeout=60_000)


def test_no_new_person_is_asked_about_news(enter: Callable[..., Page]) -> None:
    page = enter()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/user/{NAME}/lab?reset")
    expect(page.locator(".jp-LauncherCard").first).to_be_visible(timeout=120_000)
    # The status bar asks the session after everything else has been loaded.
    expect(page.get_by_role("timer")).to_contain_text("Time left", timeout=60_000)
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text("official Jupyter news")).to_have_count(0)
    assert not [each for each in asked if "/lab/api/news" in each or "/lab/api/update" in each]
