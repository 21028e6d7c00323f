# SPDX-License-Identifier: BSD-3-Clause
"""The address of the hub's database, and what is wrong with it in an inventory and on the hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from gridhub.site.inventory import Problem

#: The folder on the hub's host with the password (``HOST.pgpass``) and the certificate
#: (``HOST.crt``) of each server. A move to another server replaces neither.
FOLDER = "/etc/jupyterhub/database"

#: What the hub's programs pass to libpq ("Parameter Key Words"): the server's certificate must have
#: its name, only SCRAM shows no password to a server, and a replica would be read-only. The times
#: are seconds, and milliseconds for ``tcp_user_timeout``: until a connection is given up that has
#: broken without a word.
OPTIONS = {
    "sslmode": "verify-full",
    "require_auth": "scram-sha-256",
    "target_session_attrs": "read-write",
    "application_name": "jupyterhub",
    "gssencmode": "disable",
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}

_DOCS = '(docs/administrators/postgresql.md, "PostgreSQL")'
_EXAMPLE = "postgresql://jupyterhub@db.example.org/jupyterhub"


def is_postgresql(url: object) -> bool:
    """Return whether a database is one of PostgreSQL."""
    return str(url).startswith("postgresql:")


def options_of(url: str) -> dict[str, str]:
    """Return the options in a database's address."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def files_of(url: str) -> str:
    """Return the path, without a suffix, of a server's password and certificate."""
    return f"{FOLDER}/{quote(urlsplit(url).hostname or 'none', safe='')}"


def complete(url: str, authority: str = "") -> str:
    """Return the address with the driver and all options that a program needs to connect.

    Options in the address itself replace ours. The password is in a file (``passfile``).

    :param authority: ``jupyterhub_database_ca``.
    """
    if not is_postgresql(url):
        return url
    parts = urlsplit(url)
    files = {
        "sslrootcert": authority or f"{files_of(url)}.crt",
        "passfile": f"{files_of(url)}.pgpass",
    }
    query = urlencode(OPTIONS | files | options_of(url), safe="/:", quote_via=quote)
    return parts._replace(scheme="postgresql+psycopg", query=query).geturl()


def password_line(password: str) -> str:
    """Return the password for all servers, as libpq reads it ("The Password File")."""
    escaped = password.replace("\\", r"\\").replace(":", r"\:")
    return f"*:*:*:*:{escaped}\n"


def _port(url: str) -> int | None:
    """Return the port in an address; 5432 if it has none, None if it has a wrong one."""
    try:
        return urlsplit(url).port or 5432
    except ValueError:
        return None


def _address_problems(url: str) -> Iterator[str]:
    parts, options = urlsplit(url), options_of(url)
    if parts.password is not None or "password" in options:
        yield (
            "jupyterhub_database_url contains a password, which others could read; put it into "
            f"jupyterhub_database_password, encrypted with Ansible Vault {_DOCS}"
        )
        return
    if not parts.username or not parts.path.strip("/") or not (parts.hostname or "host" in options):
        yield (
            f"jupyterhub_database_url is {url}; it needs a user, a host and a database, such as "
            f"{_EXAMPLE} {_DOCS}"
        )
    if _port(url) is None:
        yield f"jupyterhub_database_url is {url}; its port must be a number from 1 to 65535"
    if options.get("sslmode", "verify-full") != "verify-full":
        yield (
            f"jupyterhub_database_url has sslmode={options['sslmode']}, so the hub could not be "
            "sure which server it talks to; remove the option, and set jupyterhub_database_ca "
            f"{_DOCS}"
        )


def _own_server_problems(url: str, host: str, server: Mapping[str, Any]) -> Iterator[str]:
    """Yield why the hub would not find the server of the group ``database``."""
    parts = urlsplit(url)
    name = server.get("database_server_name") or host
    expected = (
        f"postgresql://{server.get('database_user') or 'jupyterhub'}@{name}/"
        f"{server.get('database_name') or 'jupyterhub'}"
    )
    found = f"postgresql://{parts.username}@{parts.hostname}{parts.path}"
    if parts.hostname not in (name, host) or (
        found.replace(f"@{parts.hostname}/", "@/") != expected.replace(f"@{name}/", "@/")
    ):
        yield (
            f"jupyterhub_database_url is {url}, but the group database makes {expected}; write "
            "that, or take the host out of the group if the site has a server of its own "
            "(roles/database/README.md)"
        )


def database_problems(
    hub: Mapping[str, Any], host: str = "", server: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Yield what is wrong with the variables of the hub's database.

    :param hub: the variables of the hub's host.
    :param host, server: the host of the group ``database`` and its variables, if there is one.
    """
    url = str(hub.get("jupyterhub_database_url") or "sqlite:///")
    password = hub.get("jupyterhub_database_password") or ""
    if not is_postgresql(url):
        if not url.startswith("sqlite:///"):
            kind = url.partition(":")[0]
            yield (
                f"jupyterhub_database_url begins with {kind}:, which the hub cannot use; write "
                f"sqlite:////PATH or {_EXAMPLE} {_DOCS}"
            )
        return
    yield from _address_problems(url)
    if "\n" in str(password):
        yield "jupyterhub_database_password has a line break, which no password file can have"
    if host:
        yield from _own_server_problems(url, host, server or {})
        return
    if not password and "passfile" not in options_of(url):
        yield (
            "jupyterhub_database_url names a PostgreSQL server: set jupyterhub_database_password, "
            f"encrypted with Ansible Vault {_DOCS}"
        )
    if not hub.get("jupyterhub_database_ca") and "sslrootcert" not in options_of(url):
        yield (
            "jupyterhub_database_url names a PostgreSQL server: set jupyterhub_database_ca to the "
            "file on the hub's host with the authority that has signed the server's certificate, "
            f"such as /etc/ssl/certs/ca-certificates.crt {_DOCS}"
        )


def to_look_at(hub: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the hub's host is asked about the site's own server; empty if there is none."""
    url = str(hub.get("jupyterhub_database_url") or "")
    options = options_of(url)
    authority = hub.get("jupyterhub_database_ca") or options.get("sslrootcert") or ""
    if not is_postgresql(url) or not urlsplit(url).hostname or "host" in options or not _port(url):
        return {}
    return {"host": urlsplit(url).hostname, "port": _port(url), "authority": str(authority)}


def login_problems(
    hub: str, url: str, seen: str, found: Mapping[str, Any] | None
) -> Iterator[Problem]:
    """Yield why the hub could not use its database.

    :param seen: what the module ``site_facts`` found out without logging in: why the server cannot
        be used, or empty.
    :param found: what the hub's own program found out; None if it is not installed yet.
    """
    reasons: Sequence[str] = [seen] if seen else (found or {}).get("problems", [])
    for reason in reasons:
        yield Problem((hub,), f"the database {url} cannot be used: {reason} {_DOCS}")


def database_notes(hub: Mapping[str, Any], host: str, found: object) -> Iterator[str]:
    """Yield what works but may surprise.

    :param host: the host of the group ``database``, if there is one.
    :param found: as for :func:`login_problems`.
    """
    url = hub.get("jupyterhub_database_url") or ""
    if host and not is_postgresql(url):
        yield (
            f"The group database has the host {host}, but the hub keeps SQLite: "
            "jupyterhub_database_url does not name PostgreSQL"
        )
    if not host and is_postgresql(url) and found is None:
        yield (
            "Whether the hub can log in to its database was not tried, because the hub's programs "
            "are not installed yet. The deployment tries it before it configures the hub"
        )
