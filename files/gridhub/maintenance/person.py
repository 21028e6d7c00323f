# SPDX-License-Identifier: BSD-3-Clause
"""The canary's way to the hub: through the proxy, as a person's browser goes.

With a password, the canary logs in on the login page, and uses the hub's API as the pages' scripts
do: with cookies. Where people log in elsewhere (OpenID Connect), it has an API token instead, and
calls the hub's API at the hub itself, because the proxy closes the API to tokens.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from gridhub.maintenance import host, probes
from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.proxy_link import (
    REQUEST,
    ProxyHandler,
    error_text,
    read_secret,
    web_request,
)
from gridhub.maintenance.settings import Settings

#: The most that is read of a page, in bytes.
MAX_PAGE = 1 << 20


#: How long to wait for a message about a start, in seconds.
_EVENTS_WITHIN = 3.0


class Person:
    """The canary.

    :raises MaintenanceError: when a file with a secret cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.canary_user
        self._settings = settings
        self._password = read_secret(settings.canary_password)
        self._token = "" if self._password else read_secret(settings.canary_token)
        if not (self._password or self._token):
            raise MaintenanceError(
                f"neither {settings.canary_password} nor {settings.canary_token} is there: write "
                f"the password of {self.name} into the first (0600), or, where people log in with "
                "OpenID Connect, an API token into the second (roles/maintenance/README.md)"
            )
        if not settings.proxy:
            raise MaintenanceError(
                "maintenance_check_proxy is empty, but the smoke test goes through the proxy"
            )
        place = urlsplit(settings.proxy)
        public = settings.names.get(place.netloc, place.netloc)
        self.folder = urlsplit(settings.hub_api).path.removesuffix("/hub/api")
        self.base = f"https://{public}{self.folder}"
        self._place = (place.hostname or "", place.port or 443)
        self._context = probes.public_tls(verify=settings.verify_tls)
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            ProxyHandler(self._place, self._context),
            urllib.request.HTTPCookieProcessor(self._cookies),
        )

    @property
    def uses_password(self) -> bool:
        """Whether the canary logs in with a password; otherwise it has a token."""
        return bool(self._password)

    def _xsrf(self, url: str) -> str:
        """Return the value of the cookie that each changing request to ``url`` must repeat."""
        request = web_request(url)
        self._cookies.add_cookie_header(request)
        # The first one has the longest path, as in a browser.
        found = re.search(r"\b_xsrf=([^;]+)", request.get_header("Cookie", ""))
        return found[1].strip('"') if found else ""

    def request(
        self, method: str, url: str, body: bytes | None = None, kind: str = ""
    ) -> tuple[int, bytes, str]:
        """Send a request through the proxy; return the status, the answer and the last address.

        :raises MaintenanceError: when there is no answer.
        """
        # What a browser would send: pages are opened, and their scripts call the API.
        is_script = kind == "application/json"
        headers = {
            "Accept": "*/*" if is_script else "text/html",
            "Sec-Fetch-Mode": "cors" if is_script else "navigate",
            "Sec-Fetch-Site": "same-origin",
        }
        if kind:
            headers["Content-Type"] = kind
        if self._token:
            headers["Authorization"] = f"token {self._token}"
        elif is_script:
            headers |= {"X-XSRFToken": self._xsrf(url), "Referer": url}
        request = web_request(url, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=REQUEST) as answer:
                return answer.status, answer.read(MAX_PAGE), answer.url
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(MAX_PAGE), error.url or url
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise MaintenanceError(f"{url}: {reason or repr(error)}") from error

    def hub_api(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Call the hub's API; return the status and the answer, if it is an object.

        :raises MaintenanceError: when the hub does not answer.
        """
        content = None if body is None else json.dumps(body).encode()
        if self._token:
            status, answer = self._at_the_hub(method, path, content)
        else:
            url = f"{self.base}/hub/api{path}"
            status, answer, _ = self.request(method, url, content, "application/json")
        try:
            found = json.loads(answer or b"{}")
        except ValueError:
            found = {"message": error_text(answer)}
        return status, found if isinstance(found, dict) else {}

    def _at_the_hub(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        target = urlsplit(self._settings.hub_api)
        try:
            context = probes.internal_tls(self._settings.certificates, "hub-ca")
            link = probes.connect(self._settings.hub_api, context, REQUEST)
            try:
                headers = {"Authorization": f"token {self._token}"}
                link.request(method, target.path + path, body, headers)
                answer = link.getresponse()
                return answer.status, answer.read(MAX_PAGE)
            finally:
                link.close()
        except (OSError, http.client.HTTPException) as error:
            raise MaintenanceError(
                f"{self._settings.hub_api}{path}: {error or repr(error)}"
            ) from error

    def progress(self) -> str:
        """Return the hub's last message about the start of the session; empty if it has none."""
        path = f"/users/{quote(self.name)}/server/progress"
        events = b""
        deadline = time.monotonic() + _EVENTS_WITHIN
        try:
            if self._token:
                target = urlsplit(self._settings.hub_api)
                context = probes.internal_tls(self._settings.certificates, "hub-ca")
                link = probes.connect(self._settings.hub_api, context, _EVENTS_WITHIN)
                link.request(
                    "GET", target.path + path, headers={"Authorization": f"token {self._token}"}
                )
                answer = link.getresponse()
            else:
                request = web_request(
                    f"{self.base}/hub/api{path}", headers={"Sec-Fetch-Mode": "navigate"}
                )
                answer = self._opener.open(request, timeout=_EVENTS_WITHIN)
            with answer:
                # The stream ends only with the start. What has happened so far comes at once.
                while time.monotonic() < deadline and (block := answer.read1(65536)):
                    events += block
        except (OSError, http.client.HTTPException):
            pass  # no further event within the time
        found = re.findall(rb"^data: (.+)$", events, re.MULTILINE)
        with contextlib.suppress(ValueError, AttributeError):
            return str(json.loads(found[-1]).get("message", "")) if found else ""
        return ""

    def open_login_page(self) -> None:
        """Open the login page.

        :raises MaintenanceError: when it is not the hub's.
        """
        url = f"{self.base}/hub/login"
        status, page, last = self.request("GET", url)
        # With a token, the page may lead on to the login service, which is not of interest here.
        if status >= 500 or (status != 200 and self._password):
            raise MaintenanceError(f"{last}: status {status} {error_text(page)}".strip())
        if self._password and not self._xsrf(url):
            raise MaintenanceError(f"{last} is no login page of the hub: it gives no _xsrf cookie")

    def log_in(self) -> None:
        """Log in, and check that the hub knows the account.

        :raises MaintenanceError: with the hub's reason.
        """
        if self._password:
            url = f"{self.base}/hub/login?next={self.folder}/hub/home"
            form = {"username": self.name, "password": self._password, "_xsrf": self._xsrf(url)}
            kind = "application/x-www-form-urlencoded"
            status, page, last = self.request("POST", url, urlencode(form).encode(), kind)
            if status != 200 or not urlsplit(last).path.startswith(f"{self.folder}/hub/home"):
                why = error_text(page) or f"the login led to {urlsplit(last).path}"
                raise MaintenanceError(f"{self.name} cannot log in: {why} (status {status})")
        self.session()

    def log_out(self) -> None:
        """Log out, with which the hub deletes the tokens of this login."""
        if self._password:
            self.request("GET", f"{self.base}/hub/logout")

    def session(self) -> dict[str, Any]:
        """Return the hub's record of the canary's session; empty if there is none.

        :raises MaintenanceError: when the hub does not show it.
        """
        status, body = self.hub_api("GET", f"/users/{quote(self.name)}")
        if status != 200:
            raise MaintenanceError(f"the hub answered {status} {body.get('message', '')}".strip())
        return dict(body.get("servers", {}).get("") or {})

    @property
    def prefix(self) -> str:
        """The address of the session, without a slash at its end."""
        if self._settings.user_subdomains and (url := self.session().get("full_url")):
            return str(url).rstrip("/")
        return f"{self.base}/user/{quote(self.name)}"

    def open_session(self) -> None:
        """Open the session's page, by way of the hub's check of the login.

        :raises MaintenanceError: when another page comes instead.
        """
        page = "api/status" if self._token else "lab"
        status, content, last = self.request("GET", f"{self.prefix}/{page}")
        if status != 200 or not urlsplit(last).path.startswith(f"{self.folder}/user/"):
            if status == 403 and self._token:
                raise MaintenanceError(
                    f"{last}: status 403: the token needs the scope access:servers!user"
                )
            raise MaintenanceError(f"{last}: status {status} {error_text(content)}".strip())

    def start_kernel(self) -> str:
        """Start a kernel in the session; return its id.

        :raises MaintenanceError: with the session's reason.
        """
        url = f"{self.prefix}/api/kernels"
        status, content, _ = self.request("POST", url, b"{}", "application/json")
        if status != 201:
            raise MaintenanceError(f"no kernel: status {status} {error_text(content)}".strip())
        return str(json.loads(content)["id"])

    def run_cell(self, kernel: str, code: str, seconds: float) -> str:
        """Run a cell in a kernel, through its websocket; return what it prints.

        :raises MaintenanceError: with the reason why it does not run.
        """
        url = f"{self.prefix}/api/kernels/{kernel}/channels"
        request = web_request(url)
        self._cookies.add_cookie_header(request)
        target = urlsplit(url)
        headers = {"Host": target.netloc, "Origin": f"https://{target.netloc}"}
        if self._token:
            headers["Authorization"] = f"token {self._token}"
        if cookies := request.get_header("Cookie"):
            headers["Cookie"] = cookies
        asked = {
            "url": url.replace("https:", "wss:", 1),
            "place": self._place,
            "headers": headers,
            "verify": self._settings.verify_tls,
            "code": code,
            "seconds": seconds,
        }
        # The program runs with the hub's libraries, which have a client for websockets. The cookies
        # stay in memory.
        with host.in_memory(json.dumps(asked).encode()) as file:
            command = self._settings.run_cell
            return host.run(command, seconds=seconds + 10, named="running a cell", reads=file)
