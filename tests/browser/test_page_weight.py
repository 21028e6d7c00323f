"""What a browser loads for JupyterLab's page: the first time, and when the page is opened again."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from playwright.sync_api import Page

from browsing import OpenBrowser, log_in
from cluster import LogIn

#: The address of a file whose name has a hash of its content.
HASHED = re.compile(r"[/.][0-9a-f]{16,}\.\w+(\?|$)")
#: What JupyterLab asks its server although no session has a use for the answer.
UNUSED = re.compile(r"/lsp/|/lab/api/build")


class Load(NamedTuple):
    """The responses that came over the network, and their bytes there and in the page."""

    responses: list[dict[str, Any]]
    sent: int
    content: int

    def urls(self) -> list[str]:
        return [response["url"] for response in self.responses]


def load_lab(page: Page) -> Load:
    """Open JupyterLab; return what came over the network."""
    responses: dict[str, dict[str, Any]] = {}
    cached: set[str] = set()
    sizes = {"sent": 0, "content": 0}

    def answered(event: dict[str, Any]) -> None:
        if not event["response"].get("fromDiskCache"):
            responses[event["requestId"]] = event["response"]

    def received(event: dict[str, Any]) -> None:
        if event["requestId"] in responses:
            sizes["content"] += event["dataLength"]

    def finished(event: dict[str, Any]) -> None:
        if event["requestId"] in responses:
            sizes["sent"] += event["encodedDataLength"]

    devtools = page.context.new_cdp_session(page)
    devtools.on("Network.responseReceived", answered)
    devtools.on("Network.requestServedFromCache", lambda event: cached.add(event["requestId"]))
    devtools.on("Network.dataReceived", received)
    devtools.on("Network.loadingFinished", finished)
    devtools.send("Network.enable")
    page.goto("/user/alice/lab?reset", wait_until="commit")
    page.locator(".jp-LauncherCard").first.wait_for(timeout=120_000)
    devtools.detach()
    over_network = [response for key, response in responses.items() if key not in cached]
    return Load(over_network, **sizes)


def test_jupyterlab_loads_few_bytes_and_loads_no_unchangeable_file_twice(
    window: OpenBrowser, login: LogIn, passwords: dict[str, str]
) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    page = window()
    log_in(page, "alice", passwords["alice"])
    page.wait_for_url("**/hub/home")

    first = load_lab(page)
    assert {response["protocol"] for response in first.responses} == {"h2"}
    assert len([url for url in first.urls() if HASHED.search(url)]) > 30
    assert first.sent < 0.4 * first.content
    assert not [url for url in first.urls() if UNUSED.search(url)]

    again = load_lab(page)
    assert not [url for url in again.urls() if HASHED.search(url)]
    assert len(again.responses) < 0.5 * len(first.responses)
    assert again.sent < 0.15 * first.sent
