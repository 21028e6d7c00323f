#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Fetch the login page of the hub as a browser would."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import time
from urllib.parse import urljoin, urlsplit

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: login_page
short_description: Fetch the login page of the hub as a browser would
description:
  - Opens the address that people type, follows the redirects to the login page, and loads a file of
    the page. Checks the name and the dates of the certificate, not who has signed it, because a
    site's own authority may be unknown here. Changes nothing.
author: GridHub contributors
options:
  url:
    description: The address that people type.
    type: str
    required: true
  address:
    description: The address to connect to, as C(HOST:PORT); empty means that of the URL.
    type: str
    default: ""
  within:
    description: How many seconds to try again while the page cannot be fetched.
    type: int
    default: 30
"""

EXAMPLES = """
- name: Fetch the login page
  gridhub.gridhub.login_page:
    url: https://jupyter.example.org/
"""

RETURN = """
page:
  description: The address of the login page.
  returned: success
  type: str
"""

#: The time limit of each request, in seconds.
ANSWER_WITHIN = 10.0

#: How many redirects to follow at most. Without a fault, there are two: to the hub, and to its
#: login page.
MAX_REDIRECTS = 6

#: Read at most this many bytes of a page.
MAX_PAGE = 2**20

#: Who may be at fault, by status.
HINTS = {
    404: "is the folder right?",
    421: "nginx does not know this host name",
    429: "this address has sent too many requests",
    502: "configurable-http-proxy does not answer",
    503: "the hub does not answer",
    504: "configurable-http-proxy does not answer in time",
}


#: The message of a failure.
MESSAGE = (
    "The login page cannot be fetched from this machine, as people would. %s. If only this machine "
    "cannot reach that address, set proxy_check_address to one that leads to the service from "
    "here, or proxy_check to false "
    '(docs/administrators/your-cluster.md, "The last check of a deployment")'
)


class Failure(Exception):
    """The page cannot be fetched; the message names the address and the reason."""


def reason_of(error):
    """Return why a connection failed, in words."""
    if isinstance(error, socket.gaierror):
        return "the name has no address here (%s)" % error.strerror
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate is not valid: %s" % error.verify_message
    if isinstance(error, ssl.SSLError):
        return "no TLS connection is possible (%s)" % (error.reason or error)
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "no answer within %d s" % ANSWER_WITHIN
    if isinstance(error, http.client.HTTPException):
        return "the answer is not HTTP (%r)" % error
    return str(getattr(error, "strerror", None) or error).lower()


def certificate_at(place, name):
    """Return the certificate of a server, whether or not it is valid."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(place, ANSWER_WITHIN)
    with contextlib.closing(plain), context.wrap_socket(plain, server_hostname=name) as link:
        return ssl.DER_cert_to_PEM_cert(link.getpeercert(binary_form=True))


def context_for(certificate):
    """Return a TLS context that accepts only this certificate, while it is valid."""
    context = ssl.create_default_context(cadata=certificate)
    # The certificate itself may be the trusted one, even if an authority has signed it.
    context.verify_flags |= 0x80000  # ssl.VERIFY_X509_PARTIAL_CHAIN, from Python 3.10
    return context


class Connection(http.client.HTTPSConnection):
    """A connection to an address that is not the one in the URL."""

    def __init__(self, place, name, context):
        super().__init__(place[0], place[1], timeout=ANSWER_WITHIN, context=context)
        self._name, self._tls = name, context

    def connect(self):
        """Connect, and check the certificate for the name in the URL."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def get(url, address):
    """Return status, Location and body of the answer.

    :raises Failure: when there is no answer.
    """
    target = urlsplit(url)
    host, _, port = address.rpartition(":")
    place = (host.strip("[]"), int(port)) if address else (target.hostname, target.port or 443)
    try:
        context = context_for(certificate_at(place, target.hostname))
        with contextlib.closing(Connection(place, target.hostname, context)) as link:
            path = (target.path or "/") + ("?" + target.query if target.query else "")
            headers = {"Host": target.netloc, "Accept": "text/html,*/*;q=0.8"}
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            body = answer.read(MAX_PAGE).decode(errors="replace")
            return answer.status, answer.getheader("Location", ""), body
    except (OSError, http.client.HTTPException) as error:
        raise Failure("%s: %s" % (shown(url, address), reason_of(error))) from error


def origin(url):
    """Return the scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80}.get(parts.scheme, 443)


def shown(url, address):
    """Return where a page has been fetched, in words."""
    return "%s (at %s)" % (url, address) if address else url


def check_status(url, address, status):
    """Check that a page has been served.

    :raises Failure: with the status, and what it means here.
    """
    if status != 200:
        hint = HINTS.get(status, "")
        hint = hint and " (%s)" % hint
        raise Failure("%s: status %d%s" % (shown(url, address), status, hint))


def login_page(url, address):
    """Return the address of the login page, after it and one of its files have been fetched.

    :param url: the address that people type.
    :raises Failure: when the page cannot be fetched, or is not the hub's.
    """
    folder = urlsplit(url).path.rstrip("/")
    at = url
    for _ in range(MAX_REDIRECTS):
        status, location, body = get(at, address)
        if status not in (301, 302, 303, 307, 308):
            break
        goal = urljoin(at, location)
        if origin(goal) != origin(url):
            # A site's own authenticator sends people to a login elsewhere.
            if urlsplit(at).path.startswith(folder + "/hub/") and origin(goal)[0] == "https":
                return goal
            raise Failure("%s: it redirects to %s, away from %s" % (at, goal, url))
        if not (urlsplit(goal).path + "/").startswith(folder + "/"):
            raise Failure("%s: it redirects to %s, out of the folder %s" % (at, goal, folder))
        at = goal
    else:
        raise Failure(
            "%s: more than %d redirects; the last one leads to %s" % (url, MAX_REDIRECTS, at)
        )
    check_status(at, address, status)
    found = re.search(r'(?:href|src)="(%s/hub/(?:pages|static)/[^"]+)"' % re.escape(folder), body)
    if not found:
        raise Failure(
            "%s: this is not the login page of the hub, but another program's page"
            % shown(at, address)
        )
    file = urljoin(at, found[1].replace("&amp;", "&"))
    check_status(file, address, get(file, address)[0])
    return at


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "within": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    url, address = module.params["url"], module.params["address"]
    deadline = time.monotonic() + module.params["within"]
    while True:
        try:
            module.exit_json(changed=False, page=login_page(url, address))
        except Failure as failure:
            if time.monotonic() > deadline:
                module.fail_json(msg=MESSAGE % failure)
        time.sleep(1)


if __name__ == "__main__":
    main()
