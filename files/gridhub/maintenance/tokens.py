# SPDX-License-Identifier: BSD-3-Clause
"""The hub's tokens of the canary: a smoke test leaves none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.person import Person

#: The clocks of the hub's process and of this program are the same, but their seconds are rounded.
ROUNDING = timedelta(seconds=2)

#: How long a smoke test takes at most until its session has a token.
LONGEST = timedelta(minutes=5)


def token_ids(person: Person) -> set[str]:
    """Return the ids of all tokens of the canary; empty if it may not see them."""
    return {str(each["id"]) for each in _tokens(person)}


def _tokens(person: Person) -> list[dict[str, Any]]:
    if not person.uses_password:
        return []
    status, body = person.hub_api("GET", f"/users/{quote(person.name)}/tokens")
    if status != 200:
        raise MaintenanceError(f"the hub does not list the tokens: {status} {body}")
    return [*body.get("api_tokens", []), *body.get("oauth_tokens", [])]


def revoke_tokens(person: Person, before: set[str], since: str) -> list[str]:
    """Revoke the canary's tokens that were made during a smoke test; return their ids.

    :param before: the ids of the tokens that were there before.
    :param since: when the smoke test began. A token that is older than this, or that was made long
        after it, is left alone in any case.
    """
    begun = datetime.fromisoformat(since)
    revoked = []
    for token in _tokens(person):
        made = datetime.fromisoformat(str(token["created"]).replace("Z", "+00:00"))
        made = made if made.tzinfo else made.replace(tzinfo=UTC)
        if str(token["id"]) in before or not begun - ROUNDING <= made <= begun + LONGEST:
            continue
        # The token of this login itself is among those of earlier logins, and is deleted at the
        # log-out. The hub answers 404 for a token that is already gone.
        status, body = person.hub_api("DELETE", f"/users/{quote(person.name)}/tokens/{token['id']}")
        if status not in (200, 204, 404):
            raise MaintenanceError(f"a token cannot be revoked: {status} {body}")
        revoked.append(str(token["id"]))
    return revoked
