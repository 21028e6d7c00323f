# SPDX-License-Identifier: BSD-3-Clause
"""Choose clear messages for refusals and errors; JupyterHub's own words go only to the log."""

from __future__ import annotations

from tornado import web

from gridhub.words import text


class Refusal(web.HTTPError):
    """A refused request; pages show the message to the person unchanged."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(status_code, message)
        #: The message that JupyterHub's pages show.
        self.jupyterhub_message = message


#: The name of our message (``error.NAME``), keyed by a part of the JupyterHub message that ours
#: replaces (JupyterHub 6.1.1).
MESSAGES = {
    "_xsrf": "stale_form",
    "XSRF": "stale_form",
    "Login form invalid or expired": "stale_form",
    " is already running": "active",
    " is pending ": "active",
    " already has the maximum of ": "no_room",
    "Named servers are not enabled": "not_named",
    "Invalid server_name": "bad_name",
}


def error_words(error: BaseException | None, status_code: int) -> str:
    """Return the message for an error; JupyterHub's own words go only to the log."""
    if words := getattr(error, "jupyterhub_message", ""):
        return str(words)
    if words := refusal_words(error):
        return words
    return text(f"error.text_{status_code if status_code in (403, 404, 429, 503) else 'other'}")


def refusal_words(error: BaseException | None) -> str:
    """Return the message for a refusal by JupyterHub itself; empty for any other error."""
    original = getattr(error, "log_message", None) or ""
    return next((text(f"error.{name}") for part, name in MESSAGES.items() if part in original), "")
