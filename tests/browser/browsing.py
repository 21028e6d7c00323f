"""A real browser that opens the hub's pages, and the checks that every page must pass."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from cluster import BASE_URL, ROOT, LogIn
from hub_client import wait_for

#: The distribution's own browser, so that the tests need not download one.
CHROMIUM = os.environ.get("GRIDHUB_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SHOTS = ROOT / ".cache/screenshots"

#: axe needs only a page's own style sheets. With ``preload``, axe would also request every imported
#: style sheet, but at a wrong address.
AXE = {"resultTypes": ["violations"], "preload": False}

#: The width of a telephone's screen and the width of a desktop screen, in pixels.
NARROW, WIDE = 360, 1400

# A long timeout, because the browser and the cluster share two cores.
expect.set_options(timeout=30_000)


def trust_flag() -> str:
    """Return the flag with which Chromium trusts the demo's self-signed certificate.

    Chromium keeps no file that came over a connection with an error, even if the error is ignored.
    """
    address = urlsplit(BASE_URL)
    assert address.hostname and address.port
    pem = ssl.get_server_certificate((address.hostname, address.port))
    key = load_pem_x509_certificate(pem.encode()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = base64.b64encode(hashlib.sha256(encoded).digest()).decode()
    return f"--ignore-certificate-errors-spki-list={digest}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = [*FLAGS, trust_flag()]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


OpenBrowser = Callable[..., Page]


@pytest.fixture
def window(browser: Browser) -> Iterator[OpenBrowser]:
    """Open browser windows that share nothing with each other, not even cookies."""
    contexts = []

    def open_window(javascript: bool = True) -> Page:
        context = browser.new_context(
            base_url=BASE_URL,
            ignore_https_errors=True,  # the demo's certificate is self-signed
            java_script_enabled=javascript,
            locale="en-GB",
            viewport={"width": WIDE, "height": 900},
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        return context.new_page()

    yield open_window
    for context in contexts:
        context.close()


def log_in(page: Page, name: str, password: str, goal: str = "/hub/home") -> None:
    """Open the page ``goal``, and log in with the form that appears first."""
    page.goto(goal)
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


@pytest.fixture
def enter(window: OpenBrowser, login: LogIn, passwords: dict[str, str]) -> Callable[..., Page]:
    """Log people in, each in their own window; stop their sessions before and after the test."""

    def open_and_log_in(name: str, javascript: bool = True, goal: str = "/hub/home") -> Page:
        login(name)
        page = window(javascript)
        log_in(page, name, passwords[name], goal)
        return page

    return open_and_log_in


Enter = Callable[..., Page]


@pytest.fixture
def closed_queue(qmaster_host: Any) -> Iterator[None]:
    """Let no job start during the test."""
    qmaster_host.check_output("qmod -d all.q")
    yield
    qmaster_host.check_output("qmod -e all.q")


def problems(page: Page, options: dict[str, Any]) -> list[str]:
    """Return the serious and critical findings of axe-core."""
    return [
        f"{rule['impact']}: {rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in Axe().run(page, options=options).response["violations"]
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


@contextmanager
def unchanged(page: Page) -> Iterator[None]:
    """Keep a page as it is: it gets no new data, and loads no other page.

    Afterwards, the page gets its data, and the browser opens the page that it would have opened.
    """
    held: list[Route] = []
    left: list[str] = []

    def hold(route: Route) -> None:
        if route.request.is_navigation_request():
            left.append(route.request.url)
            route.abort("aborted")  # the browser keeps the page
        elif route.request.resource_type in ("fetch", "xhr"):
            held.append(route)
        else:
            route.fallback()

    page.route("**/*", hold)
    try:
        yield
    finally:
        page.unroute("**/*", hold)
        for route in held:
            route.fallback()
        if left:
            page.evaluate("address => location.assign(address)", left[-1])


def check(page: Page, name: str, options: dict[str, Any] | None = None) -> None:
    """Check a page on a telephone, on a desktop and in dark mode; keep screenshots."""
    with unchanged(page):
        check_unchanged(page, name, options)


def check_unchanged(page: Page, name: str, options: dict[str, Any] | None) -> None:
    """Check a page that does not change meanwhile."""
    axe = AXE | (options or {})
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.emulate_media(reduced_motion="reduce")  # no colours in transition
    for width, height in ((NARROW, 740), (WIDE, 640)):
        page.set_viewport_size({"width": width, "height": height})
        header = page.evaluate("document.querySelector('.site-header')?.offsetHeight ?? 0")
        assert header < 100, f"{name}: the header has more than two rows at {width} px"
        needed = page.evaluate("document.documentElement.scrollWidth")
        assert needed <= width, f"{name} needs {needed} px of {width}"
        page.screenshot(path=SHOTS / f"{name}-{width}.png", full_page=True)
        assert problems(page, axe) == [], f"{name} at {width} px"
    theme = page.evaluate("document.documentElement.dataset.bsTheme")
    page.evaluate("document.documentElement.dataset.bsTheme = 'dark'")
    page.screenshot(path=SHOTS / f"{name}-dark.png", full_page=True)
    assert problems(page, axe | {"runOnly": ["color-contrast"]}) == [], f"{name} in dark mode"
    page.evaluate("theme => document.documentElement.dataset.bsTheme = theme", theme)
    headings = page.locator("h1, h2, h3").evaluate_all("all => all.map(each => each.tagName)")
    assert headings[:1] == ["H1"], f"{name}: the first heading is {headings[:1]}"
    assert headings.count("H1") == 1


def card(page: Page, name: str = "Session") -> Any:
    """Return a session's card on the home page."""
    heading = page.get_by_role("heading", name=name, exact=True)
    return page.locator("#sessions > section").filter(has=heading)


def choose(page: Page, **amounts: object) -> None:
    """Fill in the menu's form and send the form."""
    for name, value in amounts.items():
        field = page.locator(f"#menu-{name}")
        if field.evaluate("each => each.tagName") == "SELECT":
            field.select_option(str(value))
        else:
            field.fill(str(value))
    page.get_by_role("button", name="Start", exact=True).click()


def run_a_cell(page: Page, lab: str, code: str, printed: str) -> None:
    """Open JupyterLab, run a cell in a new notebook, and check its output."""
    page.goto(f"{lab}?reset")
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click(timeout=60_000)
    # Until the kernel is ready, JupyterLab redraws the new notebook and loses typed text.
    expect(page.locator("#jp-bottom-panel")).to_contain_text("| Idle", timeout=60_000)
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    cell.click()
    page.keyboard.type(code)
    expect(cell).to_have_text(code)
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output pre").first
    expect(output).to_have_text(re.compile(rf"^{printed}\s*$"), timeout=60_000)


def wait_until_no_job_is_left(hub_host: Any, user: str) -> None:
    """Wait until a user has no more jobs in Grid Engine."""
    wait_for(
        f"no job of {user} is left", lambda: not hub_host.check_output("qstat -u %s", user).strip()
    )


@contextmanager
def changed(host: Any, name: str, change: Callable[[Any], object]) -> Iterator[None]:
    """Change one of the JSON files that the hub rereads by itself; restore the file at the end."""
    path = f"/etc/jupyterhub/{name}"
    whole = host.check_output("cat %s", path)

    def write(text: str) -> None:
        # Writing with cat keeps the file's owner and mode.
        host.check_output(f"printf %%s %s | cat > {path}", text)

    parsed = json.loads(whole)
    change(parsed)
    write(json.dumps(parsed))
    try:
        yield
    finally:
        write(whole + "\n")
