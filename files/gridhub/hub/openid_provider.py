# SPDX-License-Identifier: BSD-3-Clause
"""What an OpenID Connect provider publishes about itself (OpenID Connect Discovery 1.0).

This module imports nothing: ``playbooks/validate.yml`` uses it on a machine without the hub's
packages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

#: The addresses that a login needs.
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint")

#: Where a provider takes people who log out (OpenID Connect RP-Initiated Logout 1.0).
END_SESSION = "end_session_endpoint"


def discovery_url(issuer: str) -> str:
    """Return the address of the provider's discovery document (Discovery 1.0, section 4)."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def document_problems(document: Any, issuer: str, endpoints: Collection[str]) -> Iterator[str]:
    """Yield why nobody could log in at the provider.

    :param document: the discovery document, as JSON was read.
    :param endpoints: the endpoints that the hub uses.
    """
    where = discovery_url(issuer)
    if not isinstance(document, Mapping):
        yield f"{where} is no discovery document"
        return
    if document.get("issuer") != issuer:
        yield (
            f"{where} names the issuer {document.get('issuer')!r}, but jupyterhub_openid_issuer is "
            f"{issuer!r}; both must be exactly the same"
        )
    for name in endpoints:
        address = document.get(name)
        if not isinstance(address, str) or not address.startswith("https://"):
            yield f"{where}: {name} is {address!r}; the hub needs an address with https"
    kinds = document.get("response_types_supported")
    if isinstance(kinds, list) and "code" not in kinds:
        yield f"{where}: the provider does not support the authorization code flow"


def document_notes(document: Mapping[str, Any], claims: Collection[str]) -> Iterator[str]:
    """Yield what a provider does not promise; many leave out what they support.

    :param claims: the claims that the hub reads.
    """
    known = document.get("claims_supported")
    if isinstance(known, list) and (missing := sorted(set(claims) - set(known))):
        yield (
            f"The provider does not list the claim {', '.join(missing)} among those that it "
            "supports; log in once to find out (jupyterhub_openid_claim, jupyterhub_openid_scopes)"
        )
    if not document.get(END_SESSION):
        yield "People stay logged in at the provider: it has no address for logging out"


def sends_secret_in_header(document: Mapping[str, Any]) -> bool:
    """Return whether the provider takes the client's secret only in a header (HTTP Basic)."""
    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return "client_secret_post" not in methods
