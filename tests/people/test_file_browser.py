"""The file browser's root folder and the site's shortcuts, for the members of groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import SHOTS, changed, log_in, problems
from cluster import BASE_URL, host
from hub_client import HubClient
from newcomer import Newcomer

Make = Callable[..., Newcomer]

SHORTCUTS = [
    {"name": "Scratch", "path": "/srv/scratch/{user}"},
    {"name": "Physics", "path": "/srv/projects/physics", "groups": ["physics"]},
    {"name": "Games", "path": "/srv/projects/games", "groups": ["games"]},
    {"name": "Not yet", "path": "/srv/scratch/{user}/not-yet"},
    {"name": "Closed", "path": "/root"},
]


@pytest.fixture
def site(newcomer: Make, workers: list[Any]) -> Iterator[Newcomer]:
    """Give workers folders beside /home; yield a member of the group physics."""
    everywhere = [*workers, host("hub"), host("qmaster")]
    for each in everywhere:
        each.check_output("groupadd --force physics")
    person = newcomer(groups="users,physics")
    for worker in workers:
        worker.check_output(
            f"install -d -o {person.name} /srv/scratch/{person.name} && "
            "install -d -g physics -m 2775 /srv/projects/physics /srv/projects/games"
        )
    yield person
    person.stop()
    for worker in workers:
        worker.check_output("rm -rf /srv/scratch /srv/projects")
    for each in everywhere:
        each.check_output("groupdel --force physics")


@pytest.fixture
def offer(hub_host: Any) -> Iterator[Callable[..., None]]:
    """Set the root folders and shortcuts of new sessions, as the deployment writes them."""
    contexts = []

    def set_folders(roots: list[Any], shortcuts: list[Any]) -> None:
        new = {"root_folders": roots, "shortcuts": shortcuts}
        context = changed(hub_host, "broker.json", lambda broker: broker.update(new))
        context.__enter__()
        contexts.append(context)

    yield set_folders
    for context in contexts:
        context.__exit__(None, None, None)


def open_lab(window: Callable[..., Page], person: Newcomer) -> Page:
    page = window()
    log_in(page, person.name, person.password, goal=f"{person.prefix}/lab?reset")
    expect(page.locator(".jp-LauncherCard").first).to_be_visible(timeout=120_000)
    return page


def test_shortcuts_of_my_groups_lead_to_folders_beside_the_home(
    site: Newcomer, offer: Callable[..., None], window: Callable[..., Page]
) -> None:
    offer([{"path": "/"}], SHORTCUTS)
    site.start()
    page = open_lab(window, site)
    shortcuts = page.get_by_role("navigation", name="Shortcuts").get_by_role("button")
    expect(shortcuts).to_have_text(["Home", "Scratch", "Physics"])
    path = page.locator("#filebrowser .jp-BreadCrumbs")
    expect(path).to_contain_text(site.name)
    shortcuts.filter(has_text="Scratch").click()
    expect(path).to_contain_text("scratch")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "shortcuts.png")
    nav = {"include": [["#gridhub-shortcuts"]]}
    assert problems(page, {"resultTypes": ["violations"], "preload": False} | nav) == []
    # A kernel that is started there works there.
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    expect(page.locator("#jp-bottom-panel")).to_contain_text("| Idle", timeout=120_000)
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    cell.click()
    page.keyboard.insert_text("import os; print(os.getcwd())")
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output pre").first
    expect(output).to_have_text(re.compile(f"^/srv/scratch/{site.name}"), timeout=60_000)
    shortcuts.filter(has_text="Home").click()
    expect(path).to_contain_text("home")
    # Notebook has them too.
    page.goto(f"{site.prefix}/tree")
    expect(page.get_by_role("navigation", name="Shortcuts")).to_be_visible(timeout=60_000)


def test_a_shortcut_to_a_folder_that_has_gone_says_so(
    site: Newcomer, offer: Callable[..., None], window: Callable[..., Page], workers: list[Any]
) -> None:
    offer([{"path": "/srv"}], SHORTCUTS[:2])
    site.start()
    page = open_lab(window, site)
    shortcuts = page.get_by_role("navigation", name="Shortcuts").get_by_role("button")
    expect(shortcuts).to_have_text(["Scratch", "Physics"])  # the home is not in /srv
    for worker in workers:
        worker.check_output("rm -r /srv/projects/physics")
    shortcuts.filter(has_text="Physics").click()
    expect(page.get_by_role("dialog")).to_contain_text("Physics")


def test_links_for_everyone_lead_into_the_home_and_terminals_start_where_they_should(
    site: Newcomer, offer: Callable[..., None]
) -> None:
    offer([{"path": "/"}], SHORTCUTS)
    site.write(
        "srv/week 1.ipynb", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    )
    site.start()
    page = site.get(f"{site.prefix}/lab/tree/srv/week%201.ipynb?reset")
    assert page.status_code == 200
    assert page.url.endswith(f"/lab/tree/home/{site.name}/srv/week%201.ipynb?reset")
    assert site.get(f"{site.prefix}/lab/tree/srv").url.endswith("/lab/tree/srv")
    # The page names a folder relative to the root; the home has a folder of the same name.
    assert site.terminal("pwd", folder="srv") == "/srv"
    assert site.terminal("pwd") == site.home
    kernel = site.session_rest("POST", "api/kernels", {"name": "python3"}).json()["id"]
    assert site.run(kernel, "import os; print(os.getcwd())").strip() == site.home
    # Strangers do not learn which files the home has.
    stranger = HubClient(BASE_URL, "stranger")
    for method, status in (("GET", 302), ("HEAD", 405)):
        for name in ("srv/week%201.ipynb", "srv/none.ipynb"):
            answer = stranger.http.request(
                method,
                site.url(f"{site.prefix}/lab/tree/{name}"),
                allow_redirects=False,
                timeout=30,
            )
            assert answer.status_code == status
            assert "/lab/tree/home/" not in answer.headers.get("Location", "")


def test_a_deleted_file_is_gone_also_from_the_disk(
    site: Newcomer, offer: Callable[..., None]
) -> None:
    offer([{"path": "/"}], SHORTCUTS)
    site.write("large.bin", "x")
    site.start()
    site.write("folder/inner/large.bin", "x")
    for name in ("large.bin", "folder"):
        answer = site.session_rest("DELETE", f"api/contents/home/{site.name}/{name}")
        assert answer.status_code == 204
    assert site.as_root(f"find {site.home} -name 'large.bin*'") == ""


def test_a_root_folder_that_is_not_there_gives_the_home_and_a_notice(
    newcomer: Make, offer: Callable[..., None]
) -> None:
    offer([{"path": "/srv/not-mounted"}], [{"name": "Data", "path": "/srv/not-mounted/data"}])
    person = newcomer().start()
    person.write("course.txt", "")
    assert "/srv/not-mounted" in person.wait_for_notice("cannot be opened now")
    names = person.session_rest("GET", "api/contents").json()
    assert "course.txt" in [each["name"] for each in names["content"]]


def test_a_root_folder_of_a_group_is_for_its_members_only(
    newcomer: Make, offer: Callable[..., None]
) -> None:
    offer([{"path": "/", "groups": ["games"]}], [])
    for groups, name in (("users,games", "home"), ("users", "course.txt")):
        person = newcomer(groups=groups).start()
        person.write("course.txt", "")
        names = person.session_rest("GET", "api/contents").json()
        assert name in [each["name"] for each in names["content"]]
