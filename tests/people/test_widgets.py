"""Widgets of a kernel in an environment of one's own are drawn, in JupyterLab and in Notebook.

The person's environment has ipywidgets of her own, of version 7 or 8; the front end is the site's.
Each recipe of docs/users.md for kernels is run here as it is written there, as far as Debian and
PyPI have what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from browsing import SHOTS, browser, choose, log_in, window
from cluster import BASE_URL, ROOT, host
from hub_client import HubClient

__all__ = ["browser", "window"]  # fixtures

#: The account of these tests.
NAME, UID, PASSWORD = "wanda", 2914, "wanda-people"
#: Where a person's environments and kernels are, below the home.
MINE = "own .local .ipython .jupyter Untitled*.ipynb"

CELL = """\
import ipywidgets
from tqdm.notebook import tqdm
print(ipywidgets.__version__)
slider = ipywidgets.IntSlider(value=7, max=20, description='Cats')
display(slider)
for _ in tqdm(range(3), desc='Dogs'): pass
"""


def recipe(name: str) -> str:
    """Return the commands of a recipe in docs/users.md: the first block after its heading."""
    text = (ROOT / "docs/users.md").read_text(encoding="utf-8")
    section = text.partition(f"### {name}\n")[2]
    assert section, f"docs/users.md has no recipe {name!r}"
    return section.split("```")[1].partition("\n")[2]


@pytest.fixture(scope="module")
def wanda() -> Iterator[HubClient]:
    """Make the account; yield a client that has logged in."""
    hosts = [host(name) for name in ("hub", "exec1", "exec2")]
    for each in hosts:
        each.check_output(
            f"id {NAME} 2>/dev/null || useradd -u {UID} -G jupyter -s /bin/bash"
            f" {'-m' if each is hosts[0] else '-M'} {NAME}"
        )
    hosts[0].check_output(f"echo {NAME}:{PASSWORD} | chpasswd")
    client = HubClient(BASE_URL, NAME)
    client.log_in(PASSWORD)
    client.stop()
    yield client
    client.stop()
    for each in hosts[1:]:
        each.check_output(f"userdel {NAME}")
    hosts[0].check_output(f"userdel -r {NAME} 2>/dev/null; true")


def as_wanda(commands: str) -> str:
    """Run commands as a terminal of the person's session does: in a login shell on the worker."""
    return str(
        host("exec1").check_output(
            "runuser -u %s -- env -i HOME=/home/%s PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
            " bash -lc %s",
            NAME, NAME, f"set -e; cd; {commands}",
        )
    )  # fmt: skip


@pytest.fixture
def at_home(wanda: HubClient) -> Iterator[None]:
    """Leave nothing of one test's environments and kernels in the home."""
    as_wanda(f"rm -rf {MINE}")
    yield
    wanda.stop()
    as_wanda(f"rm -rf {MINE}")


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


@pytest.mark.parametrize(("version", "more"), [("8", ""), ("7", "'ipywidgets<8'")])
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


def test_r_finds_jupyter_and_runs(wanda: HubClient, at_home: None) -> None:
    installed = host("exec1").run("apt-get install -y -qq --no-install-recommends r-cran-irkernel")
    if installed.rc != 0:
        pytest.skip(f"R is not to be had: {installed.stderr}")
    host("exec2").check_output("apt-get install -y -qq --no-install-recommends r-cran-irkernel")
    as_wanda(recipe("R"))
    wanda.choose(cores=1, memory=2, run_time=1)
    wanda.wait_until_ready(120)
    wanda.open_lab()
    assert wanda.run(wanda.start_kernel("ir"), "cat(6 * 7)", 120).strip() == "42"


def test_a_persons_own_python_settings_do_not_reach_the_command_jupyter(
    wanda: HubClient, at_home: None
) -> None:
    as_wanda("mkdir -p own && echo 'raise SystemExit(3)' > own/jupyter_core.py")
    shown = as_wanda("export PYTHONPATH=$HOME/own PYTHONHOME=/nonexistent; jupyter kernelspec list")
    assert "python3" in shown
