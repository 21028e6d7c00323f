# SPDX-License-Identifier: BSD-3-Clause
"""What ``playbooks/validate.yml`` finds about OpenID Connect and SSSD before a deployment."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from folders import ROOT
from gridhub.site.login import (
    openid_inventory_problems,
    openid_notes,
    openid_problems,
    sssd_notes,
    sssd_problems,
)

DEFAULTS = yaml.safe_load((ROOT / "roles/jupyterhub/defaults/main.yml").read_text(encoding="utf-8"))
ISSUER = "https://login.example.org/realms/cluster"
GOOD = {
    "jupyterhub_openid_issuer": ISSUER,
    "jupyterhub_openid_client_id": "hub",
    "jupyterhub_openid_client_secret": "s3cret",
    "jupyterhub_public_url": "https://jupyter.example.org/",
}
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "userinfo_endpoint": f"{ISSUER}/me",
    "end_session_endpoint": f"{ISSUER}/end",
    "response_types_supported": ["code", "id_token"],
    "claims_supported": ["sub", "preferred_username", "groups"],
}
URL = f"{ISSUER}/.well-known/openid-configuration"


def values(**changes: Any) -> dict[str, Any]:
    return DEFAULTS | GOOD | {f"jupyterhub_{name}": value for name, value in changes.items()}


def test_a_complete_block_has_no_problems() -> None:
    assert [*openid_inventory_problems(GOOD, DEFAULTS)] == []
    assert [*openid_inventory_problems({}, DEFAULTS)] == []
    found = {"url": URL, "document": DOCUMENT}
    assert [*openid_problems(found, values())] == []
    assert [*openid_notes(found, values(openid_allowed_groups=["staff"]))] == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("openid_issuer", "http://login.example.org", "must be the provider's issuer"),
        ("openid_issuer", "https://login.example.org/?a=b", "must be the provider's issuer"),
        ("openid_client_id", "", "jupyterhub_openid_client_id is empty"),
        ("openid_client_secret", "", "jupyterhub_openid_client_secret is empty"),
        ("openid_claim", "", "jupyterhub_openid_claim is empty"),
        ("public_url", "", "jupyterhub_public_url is empty"),
        ("openid_scopes", ["profile"], "must contain openid"),
        ("openid_pattern", "(.+", "no regular expression"),
        ("openid_pattern", ".+", "with 0 groups; it needs one"),
        ("openid_pattern", "(.+)@(.+)", "with 2 groups; it needs one"),
        ("openid_check_again_hours", -1, "must be 0 (never) or more"),
    ],
)
def test_a_mistake_is_named_with_its_variable(name: str, value: Any, words: str) -> None:
    hub = GOOD | {f"jupyterhub_{name}": value}
    (problem,) = openid_inventory_problems(hub, DEFAULTS)
    assert words in problem
    assert f"jupyterhub_{name}" in problem
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": f"{ISSUER}/"}, "both must be exactly the same"),
        ({"token_endpoint": None}, "token_endpoint is None"),
        ({"userinfo_endpoint": "http://login.example.org/me"}, "needs an address with https"),
        ({"response_types_supported": ["id_token"]}, "authorization code flow"),
    ],
)
def test_a_provider_that_cannot_be_used_is_named(changes: dict[str, Any], words: str) -> None:
    (problem,) = openid_problems({"url": URL, "document": DOCUMENT | changes}, values())
    assert words in problem


def test_an_answer_that_is_no_document_is_named() -> None:
    (problem,) = openid_problems({"url": URL, "document": []}, values())
    assert "no discovery document" in problem


def test_claims_in_the_token_need_no_other_address() -> None:
    document = DOCUMENT | {"userinfo_endpoint": None}
    found = {"url": URL, "document": document}
    assert [*openid_problems(found, values(openid_claims_from="id_token"))] == []


def test_a_provider_that_cannot_be_asked_is_a_problem() -> None:
    (problem,) = openid_problems({"url": URL, "error": "certificate verify failed"}, values())
    assert URL in problem
    assert "certificate verify failed" in problem
    assert "jupyterhub_openid_ca" in problem


def test_notes_name_what_may_surprise() -> None:
    document = DOCUMENT | {"claims_supported": ["sub"], "end_session_endpoint": None}
    found = {"url": URL, "document": document}
    notes = " ".join(openid_notes(found, values(openid_allowed_groups=["staff"])))
    assert "the claim groups, preferred_username" in notes
    assert "stay logged in at the provider" in notes


@pytest.mark.parametrize(("answers", "in_nsswitch"), [(True, True), (False, True), (True, False)])
def test_sssd_must_answer_if_it_is_asked(answers: bool, in_nsswitch: bool) -> None:
    found = {"answers": answers, "in_nsswitch": in_nsswitch}
    problems = [*sssd_problems(found, DEFAULTS | {"jupyterhub_pam_sssd": True})]
    assert len(problems) == (not answers) + (not in_nsswitch)
    assert [*sssd_problems(found, DEFAULTS)] == []


def test_sites_with_sssd_learn_about_the_variable() -> None:
    found = {"answers": True, "in_nsswitch": True}
    (note,) = sssd_notes(found, DEFAULTS)
    assert "jupyterhub_pam_sssd" in note
    assert [*sssd_notes(found, DEFAULTS | {"jupyterhub_pam_sssd": "yes"})] == []
    assert [*sssd_notes(found, DEFAULTS | GOOD)] == []
    assert [*sssd_notes(found | {"in_nsswitch": False}, DEFAULTS)] == []
