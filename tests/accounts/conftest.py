"""Fixtures of the scenario accounts: people in a directory, and a browser that knows its names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from browsing import CHROMIUM, FLAGS, WIDE
from cluster import BASE_URL, base_url, hub_host
from site_accounts import ADDRESSES, Directory, LoginService, names

__all__ = ["base_url", "hub_host", "names"]


@pytest.fixture(scope="session")
def directory() -> Directory:
    return Directory()


@pytest.fixture(scope="session")
def service() -> LoginService:
    return LoginService()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    rules = ",".join(f"MAP {name} {address}" for name, address in ADDRESSES.items())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, f"--host-resolver-rules={rules}"]
        )
        yield browser
        browser.close()


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open browser windows that share nothing with each other, not even cookies."""
    contexts: list[Any] = []

    def open_window(base_url: str = BASE_URL) -> Page:
        context = browser.new_context(
            base_url=base_url,
            ignore_https_errors=True,
            locale="en-GB",
            viewport={"width": WIDE, "height": 900},
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        return context.new_page()

    yield open_window
    for context in contexts:
        context.close()
