"""Part ``weight``: what JupyterLab's page loads over a slow line, the first and the second time.

A headless Chromium opens JupyterLab behind our proxy and behind that of the stock hub, which has
neither compression nor HTTP/2. Chromium slows the line down by itself (Chrome DevTools Protocol).
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from bench import stock
from bench.demo import BASE_URL
from bench.people import Person
from browsing import CHROMIUM, FLAGS

USER = "alice"
#: The line: 20 Mbit/s each way and 40 ms for each request.
LINE = {
    "offline": False,
    "latency": 40,
    "downloadThroughput": 20_000_000 / 8,
    "uploadThroughput": 20_000_000 / 8,
}
#: What is on the page when people can begin to work.
READY = ".jp-Launcher, .jp-NotebookPanel"


def fingerprint(url: str) -> str:
    """Return the hash of a server's public key, by which Chromium can be told to trust it.

    Chromium keeps nothing in its cache that comes with an error of the certificate.
    """
    target = urlsplit(url)
    pem = ssl.get_server_certificate((target.hostname or "", target.port or 443))
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


def cookies(person: Person) -> list[Any]:
    """Return a person's cookies as Playwright takes them."""
    return [
        {"name": each.name, "value": each.value, "domain": urlsplit(person.base_url).hostname}
        | {"path": each.path, "secure": True}
        for each in person.http.cookies
    ]


def load(context: BrowserContext, url: str) -> dict[str, float]:
    """Open JupyterLab in a new window; return bytes, requests and seconds until it is ready."""
    page = context.new_page()
    line = context.new_cdp_session(page)
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", LINE)
    cached: set[str] = set()
    received: dict[str, float] = {}

    def responded(event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            cached.add(event["requestId"])

    line.on("Network.requestServedFromCache", lambda event: cached.add(event["requestId"]))
    line.on("Network.responseReceived", responded)
    line.on(
        "Network.loadingFinished",
        lambda event: received.update({event["requestId"]: event["encodedDataLength"]}),
    )
    began = time.monotonic()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(READY, timeout=120_000)
    seconds = time.monotonic() - began
    fetched = [size for request, size in received.items() if request not in cached and size]
    page.close()
    return {"bytes": sum(fetched), "requests": len(fetched), "seconds": seconds}


def visit(browser: Browser, person: Person) -> dict[str, dict[str, float]]:
    """Open JupyterLab twice with an empty cache."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.add_cookies(cookies(person))
    try:
        url = f"{person.base_url}{person.prefix}/lab?reset"
        return {"first": load(context, url), "second": load(context, url)}
    finally:
        context.close()


def measure(runs: int) -> dict[str, Any]:
    """Open a session of each hub in a browser, in changing order."""
    with stock.hub(), sync_playwright() as playwright:
        people = {"ours": Person(BASE_URL, USER), "stock": Person(stock.URL, USER)}
        trusted = ",".join(fingerprint(person.base_url) for person in people.values())
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*FLAGS, f"--ignore-certificate-errors-spki-list={trusted}"],
        )
        found: dict[str, list[Any]] = {side: [] for side in people}
        try:
            for person in people.values():
                person.open_form()
                person.start()
                visit(browser, person)  # not counted: the servers read the files from the disk
            for run in range(runs):
                for side in list(people)[:: -1 if run % 2 else 1]:
                    found[side].append(visit(browser, people[side]))
        finally:
            browser.close()
            for person in people.values():
                person.stop()
    return {"line": "20 Mbit/s, 40 ms", "runs": found}
