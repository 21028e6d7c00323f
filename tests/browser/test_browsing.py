"""How the other tests check a page, tried on a page that needs no hub."""

from __future__ import annotations

from browsing import OpenBrowser, check

#: A page that is replaced while it is checked, as a page is whose session has just changed.
RESTLESS = """<!doctype html><html lang="en"><title>Restless</title><h1>Restless</h1>
<script>addEventListener("resize", () => location.assign("/other"))</script>"""


def test_a_page_is_replaced_only_after_it_is_checked(window: OpenBrowser) -> None:
    page = window()
    page.route("**/*", lambda route: route.fulfill(content_type="text/html", body=RESTLESS))
    for _ in range(3):
        page.goto("/restless")
        check(page, "restless")
        page.wait_for_url("/other")
