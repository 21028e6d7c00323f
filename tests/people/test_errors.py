"""Errors between the parts: programs such as JupyterLab get JSON with a message, people a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import Enter
from cluster import LogIn
from hub_client import HubClient, wait_for
from proxy_client import API_CALL, Answer, run_python

Fetch = Callable[..., Answer]

API = "/user/nobody/api/contents/x.ipynb"
FILE = "/user/nobody/files/x.csv"
LAB = "/user/nobody/lab"
#: A session's route to a port without a server.
AWAY = "/user/people-test-away"
LONG = "a" * 20_000
BROWSERS = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}
SCRIPTS = {"Accept": "*/*", "Sec-Fetch-Mode": "cors"}


def check_json(answer: Answer, status: int) -> str:
    """Check an answer for programs; return its message."""
    assert answer.status == status, answer.text
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Strict-Transport-Security")
    assert "default-src 'none'" in (answer.header("Content-Security-Policy") or "")
    assert "no-store" in (answer.header("Cache-Control") or "")
    if status in (429, 502, 503, 504):
        assert int(answer.header("Retry-After") or 0) > 0
    content = json.loads(answer.text)
    assert content["status"] == status
    assert len(content["message"]) > 20
    return str(content["message"])


def check_page(answer: Answer, status: int) -> None:
    """Check an answer for people."""
    assert answer.status == status, answer.text
    assert (answer.header("Content-Type") or "").startswith("text/html")
    assert "<h1>" in answer.text
    assert "<center>" not in answer.text, "nginx's own page, without words"


def reload_nginx(proxy_host: Any) -> None:
    """Let nginx read its configuration, and wait until its old workers take no more requests."""

    def workers() -> set[str]:
        return set(proxy_host.run("pgrep -fx 'nginx: worker process'").stdout.split())

    old = workers()
    proxy_host.check_output("systemctl reload nginx")
    wait_for("nginx has new workers only", lambda: (now := workers()) and not now & old)


@contextmanager
def nginx_with(proxy_host: Any, old: str, new: str) -> Iterator[None]:
    """Replace a part of nginx's configuration during a test."""
    file = "/etc/nginx/nginx.conf"
    kept = f"{file}.{abs(hash(old))}"
    assert old in proxy_host.file(file).content_string
    proxy_host.check_output("cp -p %s %s", file, kept)
    try:
        proxy_host.check_output("sed -i %s %s", f"s|{old}|{new}|g", file)
        reload_nginx(proxy_host)
        yield
    finally:
        proxy_host.check_output("mv %s %s", kept, file)
        reload_nginx(proxy_host)


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        (API, "PUT", {"Content-Length": str(2**30)}, 413),
        (FILE, "PUT", {"Content-Length": str(2**30)}, 413),
        (LAB, "POST", SCRIPTS | {"Content-Length": str(2**30)}, 413),
        ("/hub/api/users/x/tokens", "POST", {"Content-Length": "300000"}, 413),
        (API, "GET", {"X-Long": LONG}, 400),
        (f"{API}?{LONG}", "GET", {}, 414),
        (f"{API}/%2e%2e/x", "GET", {}, 400),
        (f"{API}/%ff", "GET", {}, 400),
        (f"{API}/%ff", "GET", {"Upgrade": "websocket", "Connection": "Upgrade"}, 400),
        (API, "GET", {"X-Bad": "a\x01b"}, 400),
        (API, "TRACE", {}, 405),
        ("/services/x/./y", "GET", {}, 400),
        ("/hub/api/info", "GET", {}, 403),
        (API, "GET", {}, 424),
        (API, "GET", {"Upgrade": "websocket", "Connection": "Upgrade"}, 424),
        (LAB, "GET", SCRIPTS, 424),
    ],
)
def test_programs_get_a_message(
    fetch: Fetch, path: str, method: str, headers: dict[str, str], status: int
) -> None:
    check_json(fetch(path, method, **headers), status)


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/hub/login", "POST", {"Content-Length": "300000"}, 413),
        (LAB, "POST", BROWSERS | {"Content-Length": str(2**30)}, 413),
        ("/hub/login", "GET", {"X-Long": LONG}, 400),
        (f"/hub/login?{LONG}", "GET", {}, 414),
        (f"{FILE}/%2e%2e/x", "GET", BROWSERS, 400),
        ("/user/nobody/lab/tree/api/%2e%2e/x.ipynb", "GET", BROWSERS, 400),
        (f"{LAB}/%ff", "GET", BROWSERS, 400),
        ("/hub/home", "TRACE", {}, 405),
        ("/.jupyterhub-proxy/json/503", "GET", {}, 404),
    ],
)
def test_people_get_a_page(
    fetch: Fetch, path: str, method: str, headers: dict[str, str], status: int
) -> None:
    check_page(fetch(path, method, **headers), status)


def test_the_message_names_the_size_and_the_limit(fetch: Fetch) -> None:
    message = check_json(fetch(API, "PUT", **{"Content-Length": str(700 * 10**6)}), 413)
    assert "700.0 MB" in message
    assert "the limit is 536.9 MB" in message
    assert "Clear Outputs of All Cells" in message


@pytest.mark.parametrize("size", [1000, 2_000_000])
def test_saving_says_that_the_session_has_ended(fetch: Fetch, size: int) -> None:
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        message = check_json(fetch(API, method, bytes(size)), 424)
        assert "session is not running" in message


def test_while_the_proxy_is_down(proxy_host: Any, fetch: Fetch) -> None:
    proxy_host.check_output("systemctl stop jupyterhub-proxy.service")
    try:
        for method in ("GET", "PUT"):
            assert "not answering" in check_json(fetch(API, method), 502)
        check_json(fetch("/hub/api/users/x"), 502)
        check_page(fetch("/hub/home"), 502)
        check_page(fetch(LAB, **BROWSERS), 502)
    finally:
        proxy_host.check_output("systemctl start jupyterhub-proxy.service")
        wait_for("the hub behind the proxy", lambda: fetch("/hub/health").status == 200)


def test_while_a_session_does_not_answer(hub_host: Any, fetch: Fetch) -> None:
    target = json.dumps({"target": "https://0123456789abcdef@127.0.0.1:9"})
    assert run_python(hub_host, API_CALL, "POST", AWAY, target) == "201"
    try:
        for upgrade in ({}, {"Upgrade": "websocket", "Connection": "Upgrade"}):
            answer = fetch(f"{AWAY}/api/kernels", **upgrade)
            assert "session does not answer" in check_json(answer, 503)
        assert "session does not answer" in check_json(fetch(f"{AWAY}/x", **SCRIPTS), 503)
        page = fetch(f"{AWAY}/lab", **BROWSERS)
        check_page(page, 503)
        assert int(page.header("Retry-After") or 0) > 0
    finally:
        run_python(hub_host, API_CALL, "DELETE", AWAY, "")


def test_too_many_requests(proxy_host: Any, fetch: Fetch) -> None:
    """With limits that a few requests reach; the demo's are for a class behind one address."""
    with (
        nginx_with(proxy_host, "zone=requests:10m rate=300r/s", "zone=requests:10m rate=1r/m"),
        nginx_with(proxy_host, "zone=requests burst=3000 nodelay", "zone=requests"),
    ):
        answers = wait_for(
            "the limit", lambda: [each for each in (fetch(API),) if each.status == 429]
        )
        assert "more requests from your network" in check_json(answers[0], 429)
        check_page(fetch(LAB, **BROWSERS), 429)
        check_json(fetch("/hub/api/users/x/server/progress", Cookie="x=y"), 429)


def save(person: HubClient, size: int, name: str = "large.ipynb") -> Any:
    """Save a notebook whose outputs have ``size`` bytes, as JupyterLab does."""
    text = ("x" * 70 + "\n") * (size // 710)
    cell = {
        "cell_type": "code",
        "metadata": {},
        "execution_count": 1,
        "source": "print(1)",
        "outputs": [{"output_type": "stream", "name": "stdout", "text": text}],
    }
    cells = [cell | {"id": f"cell-{number}"} for number in range(10)]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return person.http.put(
        person.url(f"{person.prefix}/api/contents/{name}"),
        json={"type": "notebook", "format": "json", "content": notebook},
        headers={
            "X-XSRFToken": person.session_xsrf(),
            "Referer": person.url(f"{person.prefix}/lab"),
        },
        timeout=240,
    )


def started(login: LogIn, memory: int) -> HubClient:
    person = login("alice")
    person.choose(cores=1, memory=memory, run_time=1)
    person.wait_until_ready(120)
    person.open_lab()
    return person


def test_a_notebook_of_120_mb_is_saved_and_opened(login: LogIn) -> None:
    alice = started(login, 2)
    answer = save(alice, 120 * 10**6)
    assert answer.status_code in (200, 201), answer.text
    opened = alice.http.get(
        alice.url(f"{alice.prefix}/api/contents/large.ipynb?type=notebook&content=1"), timeout=240
    )
    assert opened.status_code == 200
    assert len(opened.content) > 120 * 10**6
    assert alice.run(alice.start_kernel(), "import os; os.remove('large.ipynb'); print(1)") == "1\n"


def test_a_notebook_that_exceeds_the_memory_is_refused_in_words(login: LogIn) -> None:
    alice = started(login, 1)
    kernel = alice.start_kernel()
    answer = save(alice, 120 * 10**6)
    assert answer.status_code == 413
    message = answer.json()["message"]
    assert "121." in message or "120." in message
    assert "too little memory" in message
    assert "Clear Outputs of All Cells" in message
    # The session has not been harmed.
    assert alice.run(kernel, "print(6 * 7)") == "42\n"
    assert save(alice, 10_000, "small.ipynb").status_code in (200, 201)


def test_a_long_message_reaches_the_kernel(login: LogIn) -> None:
    """Widgets upload files in one message; tornado's own limit is 10 MiB."""
    alice = started(login, 2)
    kernel = alice.start_kernel()
    assert alice.run(kernel, f"print(len('{'x' * (30 * 2**20)}'))", 120) == f"{30 * 2**20}\n"


def dialog(page: Page, words: str) -> None:
    """Wait for a dialog of JupyterLab, and close it; close any other dialogs before it.

    JupyterLab shows one dialog at a time. While the session cannot be reached, one of its own asks
    whether to restart the server.
    """
    shown = page.locator(".jp-Dialog")

    def found() -> bool:
        texts = shown.all_inner_texts()
        for text in texts:
            shown.get_by_role("button").last.click()
            if words in text:
                return True
        return False

    wait_for(f"a dialog with {words!r}", found, 90)
    expect(shown.filter(has_text=words)).to_have_count(0)


def test_jupyterlab_shows_the_messages(
    enter: Enter, login: LogIn, proxy_host: Any, fetch: Fetch
) -> None:
    page = enter("alice", goal="/hub/spawn")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/user/alice/lab**", timeout=120_000)
    page.goto("/user/alice/lab?reset")
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click(timeout=60_000)
    expect(page.locator("#jp-bottom-panel")).to_contain_text("| Idle", timeout=60_000)
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    # The first time, JupyterLab asks for a name.
    page.keyboard.press("Control+s")
    page.get_by_role("button", name="Rename and Save").click()
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    cell.click()
    page.keyboard.insert_text("#" + "x" * 10_000)
    with nginx_with(proxy_host, "client_max_body_size 512m", "client_max_body_size 8k"):
        page.keyboard.press("Control+s")
        dialog(page, "This is too large to save in one piece")
    proxy_host.check_output("systemctl stop jupyterhub-proxy.service")
    try:
        page.keyboard.press("Control+s")
        dialog(page, "The service is not answering at the moment")
    finally:
        proxy_host.check_output("systemctl start jupyterhub-proxy.service")
        wait_for("the hub behind the proxy", lambda: fetch("/hub/health").status == 200)
    login("alice")  # this ends the session
    page.keyboard.press("Control+s")
    dialog(page, "This session is not running")
