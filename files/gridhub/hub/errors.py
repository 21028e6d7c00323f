# SPDX-License-Identifier: BSD-3-Clause
"""What a person cannot have, in words: JupyterHub's own sentences are for the log."""

from __future__ import annotations

from tornado import web

from gridhub.words import text


class Refusal(web.HTTPError):
    """What a person cannot have; the message is for them, and is shown as it is."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(status_code, message)
        #: What JupyterHub's pages show.
        self.jupyterhub_message = message


#: What people read instead of what JupyterHub says (6.1.1), by a part of that.
_MEANT = {
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
    """Return what people read of an error: never JupyterHub's own sentences, which the log has."""
    if words := getattr(error, "jupyterhub_message", ""):
        return str(words)
    if words := meant(error):
        return words
    return text(f"error.text_{status_code if status_code in (403, 404, 429, 503) else 'other'}")


def meant(error: BaseException | None) -> str:
    """Return what people read of a refusal of JupyterHub's own, or nothing if it is another."""
    told = getattr(error, "log_message", None) or ""
    return next((text(f"error.{name}") for mark, name in _MEANT.items() if mark in told), "")
