#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Find out whether a host can use a PostgreSQL server over TLS, without a driver or a login."""

from __future__ import annotations

import os
import socket
import ssl

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: postgresql_tls
short_description: Connect to a PostgreSQL server over TLS
description:
  - Connects, asks for TLS, checks the server's certificate and its name, and closes the connection.
    Needs no driver, and tries no login.
author: GridHub contributors
options:
  host:
    description: The server's name, which its certificate must have.
    type: str
    required: true
  port:
    description: The server's port.
    type: int
    default: 5432
  authority:
    description: The file with the authority that has signed the certificate.
    type: path
    required: true
"""

EXAMPLES = """
- name: Look at the database's server
  postgresql_tls:
    host: db.example.org
    authority: /etc/ssl/certs/ca-certificates.crt
"""

RETURN = """
problem:
  description: Why the server cannot be used over TLS; empty if it can.
  returned: always
  type: str
"""

#: Time limit of the connection and of each answer, in seconds.
WITHIN = 5.0

#: The request for TLS: its length, and a number that stands for it (PostgreSQL's manual, "Message
#: Formats", SSLRequest).
TLS_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


def tls_problem(host, port, authority):
    """Return why PostgreSQL cannot be used over TLS; an empty text if it can."""
    where = "%s:%d" % (host, port)
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return "jupyterhub_database_ca: %s cannot be read (%s)" % (authority, reason)
    try:
        socket.getaddrinfo(host, port)
    except OSError:
        return "the name %s has no address here; add it to DNS or to /etc/hosts" % host
    try:
        with socket.create_connection((host, port), WITHIN) as link:
            link.sendall(TLS_REQUEST)
            if link.recv(1) != b"S":
                return "%s does not offer TLS; set ssl = on there, with a certificate" % where
            with context.wrap_socket(link, server_hostname=host):
                return ""
    except ssl.SSLCertVerificationError as error:
        return "%s: %s; jupyterhub_database_ca (%s) must be the authority that has signed it" % (
            where,
            error.verify_message,
            authority,
        )
    except OSError as error:
        reason = "no answer" if isinstance(error, socket.timeout) else str(error)
        return (
            "%s cannot be reached (%s); PostgreSQL must run and listen there (listen_addresses), "
            "and firewalls must let the hub's host through" % (where, reason)
        )


def main():
    """Connect, and return the problem."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "authority": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, problem=tls_problem(**module.params))


if __name__ == "__main__":
    main()
