# SPDX-License-Identifier: BSD-3-Clause
"""Find out before a deployment whether people could log in with the site's way to do so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gridhub.hub.openid_provider import ENDPOINTS, document_notes, document_problems
from gridhub.site.inventory import is_true

_DOCS = '(docs/administrators/accounts.md, "OpenID Connect")'
_ISSUER = re.compile(r"https://[^\s?#@]+")


def openid_inventory_problems(hub: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the variables about an OpenID Connect provider.

    :param defaults: the default values of the role ``jupyterhub``.
    """
    values = dict(defaults) | dict(hub)
    issuer = values["jupyterhub_openid_issuer"]
    if not issuer:
        return
    if not _ISSUER.fullmatch(str(issuer)):
        yield (
            f"jupyterhub_openid_issuer is {issuer!r}; it must be the provider's issuer, such as "
            f"https://login.example.org/realms/cluster {_DOCS}"
        )
    for name in ("client_id", "client_secret", "claim"):
        if not values[f"jupyterhub_openid_{name}"]:
            yield f"jupyterhub_openid_{name} is empty, but jupyterhub_openid_issuer is set {_DOCS}"
    if not values["jupyterhub_public_url"]:
        yield (
            "jupyterhub_public_url is empty, but jupyterhub_openid_issuer is set: the provider "
            f"sends people back to this address {_DOCS}"
        )
    scopes = values["jupyterhub_openid_scopes"]
    if "openid" not in scopes:
        yield f"jupyterhub_openid_scopes is {scopes}; it must contain openid"
    pattern = str(values["jupyterhub_openid_pattern"])
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        yield f"jupyterhub_openid_pattern is {pattern!r}, which is no regular expression: {error}"
    else:
        if groups != 1:
            yield (
                f"jupyterhub_openid_pattern is {pattern!r} with {groups} groups; it needs one, "
                "which is the name of the account, such as ([a-z0-9]+)@example[.]org"
            )
    hours = values["jupyterhub_openid_check_again_hours"]
    if isinstance(hours, int | float) and hours < 0:
        yield f"jupyterhub_openid_check_again_hours is {hours}; it must be 0 (never) or more"


def openid_problems(found: Mapping[str, Any], hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield why nobody could log in at the provider.

    :param found: what the module ``site_facts`` has read on the hub's host.
    :param hub: the variables of the hub's host, with the defaults of the role ``jupyterhub``.
    """
    if error := found.get("error"):
        yield (
            f"The OpenID Connect provider cannot be asked: {found['url']}: {error}. Check "
            "jupyterhub_openid_issuer, jupyterhub_openid_ca and that a firewall lets the hub's "
            f"host reach it {_DOCS}"
        )
        return
    from_token = hub["jupyterhub_openid_claims_from"] == "id_token"
    needed = ENDPOINTS[:2] if from_token else ENDPOINTS
    yield from document_problems(found["document"], hub["jupyterhub_openid_issuer"], needed)


def openid_notes(found: Mapping[str, Any], hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield what may surprise about the provider.

    :param found, hub: as for :func:`openid_problems`.
    """
    document = found.get("document")
    if isinstance(document, Mapping):
        claims = [hub["jupyterhub_openid_claim"]]
        if hub["jupyterhub_openid_allowed_groups"]:
            claims.append(hub["jupyterhub_openid_groups_claim"])
        yield from document_notes(document, claims)


def sssd_problems(found: Mapping[str, Any], hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield why SSSD could not check passwords on the hub's host.

    :param found: what the module ``site_facts`` has found out about SSSD there.
    """
    if not is_true(hub["jupyterhub_pam_sssd"]):
        return
    if not found["answers"]:
        yield (
            "jupyterhub_pam_sssd is true, but SSSD does not run on the hub's host with the service "
            'pam (docs/administrators/accounts.md, "SSSD")'
        )
    if not found["in_nsswitch"]:
        yield (
            "jupyterhub_pam_sssd is true, but passwd in /etc/nsswitch.conf of the hub's host does "
            'not name sss (docs/administrators/accounts.md, "SSSD")'
        )


def sssd_notes(found: Mapping[str, Any], hub: Mapping[str, Any]) -> Iterator[str]:
    """Yield that people could not read why they cannot log in while the directory is away."""
    by_pam = not hub["jupyterhub_openid_issuer"] and hub["jupyterhub_pam_service"] == "jupyterhub"
    if found["in_nsswitch"] and by_pam and not is_true(hub["jupyterhub_pam_sssd"]):
        yield (
            "Accounts come from SSSD: with jupyterhub_pam_sssd: true, people read when nobody can "
            "check their password, instead of being told that it is wrong"
        )
